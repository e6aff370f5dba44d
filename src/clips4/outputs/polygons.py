"""Masks as polygons, for formats without masks: outlines by marching squares, simplified, holes joined by a cut.

Outlines run a quarter pixel outside the centers of the outermost pixels. So, without simplification, both ways of
filling reproduce the mask exactly: the pixels whose centers lie within, and the pixels that the truncated corners and
the lines between them cover (OpenCV's fillPoly, which trainers on polygons use). Coordinates are continuous: the
image's corner is (0, 0), the first pixel's center (0.5, 0.5).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.measure import find_contours

TOLERANCE = 0.5  # pixels by which simplification may move an outline in a file
_LEVEL = 0.75  # of the change from 0 outside to 1 inside, where the outline runs

Polygon = NDArray[np.float64]  # (N, 2) x, y; closed, the first point is not repeated


def outlines(mask: NDArray[np.bool_], tolerance: float = 0.5) -> tuple[Polygon, list[Polygon]]:
    """Outer outline and holes of a connected part (8 neighbors).

    Args:
        mask: (H, W), one connected part.
        tolerance: pixels that simplification (Douglas & Peucker) may move an outline by; 0 keeps all points.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("an empty mask has no outline")
    # with "high", parts that touch at a corner are one; the border makes every outline closed
    rings = find_contours(np.pad(mask, 1).astype(np.float32), _LEVEL, fully_connected="high")
    found = [_simplified(ring, tolerance)[:-1, ::-1] - 0.5 for ring in rings]  # row, column of the padded -> x, y
    areas = [signed_area(ring) for ring in found]
    outer = int(np.argmax(np.abs(areas)))
    return found[outer], [ring for index, ring in enumerate(found) if index != outer and areas[index]]


def _simplified(ring: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """A ring with fewer points; one that would collapse to a line is kept as it is."""
    simple = simplify(ring, tolerance) if tolerance else ring
    return simple if len(simple) > 3 else ring


def simplify(line: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """The fewest points of a line (N, 2) that keep it within ``tolerance`` (Douglas & Peucker, 1973).

    The same as ``skimage.measure.approximate_polygon``, in a tenth of its time.
    """
    kept = np.zeros(len(line), bool)
    kept[[0, -1]] = True
    parts = [(0, len(line) - 1)]
    while parts:
        start, end = parts.pop()
        if end - start < 2:
            continue
        along, between = line[end] - line[start], line[start + 1 : end] - line[start]
        length = float(along @ along)
        if length:
            place = (between @ along / length).clip(0, 1)
            between = between - place[:, None] * along
        distance = np.einsum("nd,nd->n", between, between)
        farthest = int(distance.argmax())
        if distance[farthest] > tolerance**2:
            middle = start + 1 + farthest
            kept[middle] = True
            parts += [(start, middle), (middle, end)]
    return line[kept]


def signed_area(polygon: Polygon) -> float:
    """Area by the shoelace formula; the sign is the orientation."""
    x, y = polygon.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def joined(outer: Polygon, holes: list[Polygon]) -> Polygon:
    """One polygon from an outline and its holes.

    A cut of zero width leads to each hole, which runs in the opposite direction, so that both filling rules leave it
    empty. The cut begins at the point of the polygon so far that is nearest to the hole.
    """
    whole = outer
    for hole in sorted(holes, key=lambda ring: float(ring[:, 0].min())):
        if signed_area(hole) * signed_area(outer) > 0:
            hole = hole[::-1]
        distance, nearest = cKDTree(whole).query(hole)
        start = int(np.argmin(distance))
        at = int(nearest[start])
        loop = np.concatenate([hole[start:], hole[: start + 1]])
        whole = np.concatenate([whole[: at + 1], loop, whole[at:]])
    return whole


def polygon_of(mask: NDArray[np.bool_], tolerance: float = 0.5) -> Polygon:
    """``outlines`` ``joined``."""
    return joined(*outlines(mask, tolerance))
