"""Oriented watershed transform: a contour map becomes small regions and the weighted arcs between them.

Arbelaez, Maire, Fowlkes, Malik, "Contour Detection and Hierarchical Image Segmentation", TPAMI 2011, section 4.1.
Arcs run on the cracks between pixels, so that every pixel belongs to a region. An arc is divided into straight pieces,
and each of its cracks is weighted by the strength of the contour *across its piece*: if a strong contour passes only at
another angle (the "oriented" in the name), the arc stays weak.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clips4.regions.contour_map import ContourMap

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOLERANCE = 1.5  # pixels between an arc and the straight pieces that approximate it
SMOOTHING = 1.0  # pixels (sigma) before flooding, so that noise makes no regions
_LEVELS = 255  # of the strength that the watershed floods; smaller dips make no region


class Arcs(NamedTuple):
    """The graph of neighboring regions.

    Attributes:
        leaves: (H, W) int32 regions 0..L-1, each 4-connected.
        pairs: (E, 2) neighboring regions a < b, each pair once, sorted.
        sums: (E,) strength times length, summed over the boundary that a and b share.
        lengths: (E,) length of that boundary in pixels; sums / lengths is its mean strength.
    """

    leaves: NDArray[np.int32]
    pairs: Ints
    sums: Floats
    lengths: Floats


class Cracks(NamedTuple):
    """Unit edges of the pixel grid that separate two regions.

    Attributes:
        pixels: (N, 2) flat indices of the two pixels, left or upper one first.
        vertices: (N, 2) flat indices of its two ends on the (H + 1, W + 1) grid of pixel corners.
    """

    pixels: Ints
    vertices: Ints


def oriented_watershed(contours: ContourMap) -> Arcs:
    """The regions around the minima of the strength, and the arcs between them with oriented weights."""
    from scipy.ndimage import gaussian_filter

    leaves = basins(gaussian_filter(contours.strength, SMOOTHING))
    cracks = boundary_cracks(leaves)
    along, length = arc_directions(cracks, leaves.shape[1] + 1)
    strength = strength_across(contours, cracks.pixels, along)
    sides = np.sort(leaves.ravel()[cracks.pixels].astype(np.int64), axis=1)
    count = int(leaves.max()) + 1
    keys, place = np.unique(sides[:, 0] * count + sides[:, 1], return_inverse=True)
    return Arcs(
        leaves,
        np.stack([keys // count, keys % count], 1),
        np.bincount(place, strength * length, len(keys)).astype(np.float64),
        np.bincount(place, length, len(keys)).astype(np.float64),
    )


def basins(strength: NDArray[np.floating]) -> NDArray[np.int32]:
    """(H, W) strength in [0, 1] -> (H, W) watershed basins 0..L-1, each 4-connected; every pixel in one."""
    from skimage.segmentation import watershed

    levels = np.round(np.clip(strength, 0, 1) * _LEVELS).astype(np.uint8)
    if levels.min() == levels.max():
        return np.zeros(levels.shape, np.int32)  # a constant map has no minima where the watershed could start
    labels: NDArray[np.int32] = watershed(levels, connectivity=1).astype(np.int32) - 1
    return labels


def boundary_cracks(labels: NDArray[np.integer]) -> Cracks:
    """The cracks between pixels of different labels, those between columns first."""
    height, width = labels.shape
    index = np.arange(height * width).reshape(height, width)
    beside = index[:, :-1][labels[:, :-1] != labels[:, 1:]]
    below = index[:-1][labels[:-1] != labels[1:]]
    # the corner at the upper left of pixel (y, x) has index y * (W + 1) + x
    corner = beside // width * (width + 1) + beside % width + 1
    corner_below = (below // width + 1) * (width + 1) + below % width
    return Cracks(
        np.concatenate([np.stack([beside, beside + 1], 1), np.stack([below, below + width], 1)]),
        np.concatenate([np.stack([corner, corner + width + 1], 1), np.stack([corner_below, corner_below + 1], 1)]),
    )


def strength_across(contours: ContourMap, pixels: Ints, along: Floats) -> Floats:
    """(N,) strength of the contour across each crack: the stronger of its two sides.

    Args:
        contours: of the image.
        pixels: (N, 2) flat indices.
        along: (N, 2) unit vectors (y, x) along the arc.
    """
    xx, xy, yy = (part.ravel()[pixels] for part in contours.tensor)
    y, x = along[:, 1:], -along[:, :1]  # the normal
    return np.sqrt(np.maximum(xx * x * x + 2 * xy * x * y + yy * y * y, 0).max(1)).astype(np.float64)


# ------------------------------------------------------------------------------------------- direction of the arcs


def arc_directions(cracks: Cracks, corners_across: int, tolerance: float = TOLERANCE) -> tuple[Floats, Floats]:
    """Direction of the arc at each crack, and the length that it represents.

    Args:
        cracks: N of them.
        corners_across: W + 1.
        tolerance: pixels between an arc and its straight pieces.

    Returns:
        (N, 2) unit vectors (y, x) along the straight piece; (N,) the piece's length divided among its cracks.
    """
    if not len(cracks.vertices):
        return np.zeros((0, 2)), np.zeros(0)
    order, chain, start, end = trace_arcs(cracks.vertices)
    points = np.stack(np.divmod(np.stack([start, end], 1), corners_across), -1).astype(np.float64)  # (N, 2, 2)
    piece = straight_pieces(points, chain, tolerance)
    first = np.flatnonzero(np.r_[True, piece[1:] != piece[:-1]])
    last = np.r_[first[1:], len(piece)] - 1
    chord = points[last, 1] - points[first, 0]
    length = np.hypot(chord[:, 0], chord[:, 1])
    # a ring that is one piece has no direction; each crack keeps its own
    crack = points[:, 1] - points[:, 0]
    whole = length[piece] > 0
    unit = np.where(whole[:, None], (chord / np.maximum(length, 1e-9)[:, None])[piece], crack)
    share = np.where(whole, (length / (last - first + 1))[piece], 1.0)
    along, lengths = np.empty_like(unit), np.empty_like(share)
    along[order], lengths[order] = unit, share
    return along, lengths


def trace_arcs(vertices: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Trace cracks along arcs: from junction to junction, from border to border, or around a ring.

    At a corner where exactly two cracks meet, one follows the other; at any other corner arcs end.

    Args:
        vertices: (N, 2) corners at the ends of each crack.

    Returns:
        ``order`` (N,) the cracks, arc after arc and each arc from end to end; in that order their arc (N,) 0..C-1, and
        the corners (N,), (N,) where each crack begins and ends in walking direction.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(vertices)
    # half-edge 2c + e is crack c walked toward its end e
    corner = vertices.ravel()
    by_corner = np.argsort(corner, kind="stable")
    same = corner[by_corner][1:] == corner[by_corner][:-1]
    alone = same & ~np.r_[False, same[:-1]] & ~np.r_[same[1:], False]
    one, other = by_corner[:-1][alone], by_corner[1:][alone]
    links = coo_array((np.ones(len(one), bool), (one // 2, other // 2)), (count, count))
    chains, chain = connected_components(links, directed=False)
    follow = np.arange(2 * count)
    follow[one], follow[other] = other ^ 1, one ^ 1
    _open_rings(follow, chain, chains)

    end, steps = follow, (follow != np.arange(2 * count)).astype(np.int64)
    while True:  # pointer doubling: each round reaches twice as far
        further = end[end]
        if np.array_equal(further, end):
            break
        steps, end = steps + steps[end], further
    toward = (end[1::2] > end[::2]).astype(np.int64)
    left = steps.reshape(count, 2)[np.arange(count), toward]
    order = np.lexsort((-left, chain))
    finish = vertices[order, toward[order]]
    return order, chain[order].astype(np.int64), vertices[order, 1 - toward[order]], finish


def _open_rings(follow: Ints, chain: NDArray[np.integer], chains: int) -> None:
    """Cut each ring, in place, at the end 0 of its first crack."""
    ends = (follow == np.arange(len(follow))).reshape(-1, 2).sum(1)
    rings = np.bincount(chain, ends, chains) == 0
    first = np.full(chains, len(chain))
    np.minimum.at(first, chain, np.arange(len(chain)))
    cut = 2 * first[rings]
    back = follow[cut] ^ 1  # the half-edge that reached the same corner from the other side
    follow[cut], follow[back] = cut, back


def straight_pieces(points: Floats, chain: Ints, tolerance: float) -> Ints:
    """Ramer-Douglas-Peucker on all arcs at once: pieces are split at their farthest corner until all are straight.

    Args:
        points: (N, 2, 2) begin and end (y, x) of each crack, in walking order.
        chain: (N,) its arc, ascending.
        tolerance: pixels.

    Returns:
        (N,) the piece of each crack, 0.. ascending.
    """
    begins = np.r_[True, chain[1:] != chain[:-1]]
    while True:
        piece = np.cumsum(begins) - 1
        first = np.flatnonzero(begins)
        last = np.r_[first[1:], len(begins)] - 1
        origin = points[first, 0]
        chord = points[last, 1] - origin
        length = np.hypot(chord[:, 0], chord[:, 1])
        away = points[:, 0] - origin[piece]
        direction = chord / np.maximum(length, 1e-9)[:, None]
        across = np.abs(away[:, 0] * direction[piece, 1] - away[:, 1] * direction[piece, 0])
        distance = np.where(length[piece] > 0, across, np.hypot(away[:, 0], away[:, 1]))
        farthest = np.maximum.reduceat(distance, first)
        split = (farthest > tolerance)[piece] & (distance == farthest[piece])
        if not split.any():
            return piece
        at = np.flatnonzero(split)
        at = at[np.r_[True, piece[at][1:] != piece[at][:-1]]]  # one corner of each piece
        begins[at] = True
