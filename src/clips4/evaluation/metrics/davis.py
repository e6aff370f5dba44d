"""J and F of video object segmentation, by the rules of DAVIS.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (CVPR 2016), section 4;
the odd cases are those of the official scorer of DAVIS-2017.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BOUND = 0.008  # tolerance of F as a share of the frame's diagonal
_BINS = 4  # parts of a sequence that decay compares the first and last of

Mask = NDArray[np.bool_]


class Statistics(NamedTuple):
    """Of the values of a sequence's frames.

    Attributes:
        mean: in [0, 1].
        recall: share of the frames above 0.5.
        decay: mean of the first quarter less that of the last; below 0 where it gets better.
    """

    mean: float
    recall: float
    decay: float


def region_similarity(truth: Mask, prediction: Mask) -> float:
    """J: intersection over union of two (H, W) masks, in [0, 1]; 1 where both are empty."""
    _check_sizes(truth, prediction)
    union = np.count_nonzero(truth | prediction)
    return np.count_nonzero(truth & prediction) / union if union else 1.0


def contour_accuracy(truth: Mask, prediction: Mask, bound: float = BOUND) -> float:
    """F: harmonic mean of precision and recall of the boundary pixels, matched within a tolerance.

    A boundary pixel is matched where the other boundary has a pixel within ``ceil(bound * diagonal)`` pixels (a disk).

    Args:
        truth, prediction: (H, W) masks.
        bound: tolerance as a share of the diagonal; in pixels where it is 1 or more.

    Returns:
        F in [0, 1]; 1 where neither has a boundary, 0 where one of them has.
    """
    _check_sizes(truth, prediction)
    radius = matching_radius(truth.shape, bound)
    part = _around(truth | prediction)
    width = truth[part].shape[1] + radius
    true, predicted = (_as_bits(boundary_map(mask[part]), width) for mask in (truth, prediction))
    if not true or not predicted:
        return float(true == predicted)
    precision = (predicted & _dilated(true, width, radius)).bit_count() / predicted.bit_count()
    recall = (true & _dilated(predicted, width, radius)).bit_count() / true.bit_count()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def matching_radius(shape: tuple[int, ...], bound: float) -> int:
    """Radius in pixels of the disk in which boundary pixels of maps (H, W) match; see ``contour_accuracy``."""
    return int(bound) if bound >= 1 else int(np.ceil(bound * np.linalg.norm(shape)))


def _around(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns that hold the mask and, within the frame, one more on each side: all of its boundary."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return slice(1), slice(1)
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(0))
    return slice(max(0, rows[0] - 1), rows[-1] + 2), slice(max(0, columns[0] - 1), columns[-1] + 2)


def _as_bits(edge: Mask, width: int) -> int:
    """An (H, W) map as one integer: bit row * width + column."""
    wide = np.zeros((len(edge), width), bool)
    wide[:, : edge.shape[1]] = edge
    return int.from_bytes(np.packbits(wide, bitorder="little").tobytes(), "little")


def _dilated(bits: int, width: int, radius: int) -> int:
    """A map dilated with a disk: every pixel within ``radius`` of one of its pixels.

    The disk is a stack of rows of a few lengths. From its top and bottom inwards, what is found so far grows by the
    rows up to the next length, and the map, dilated with a row of this length, is joined to it.

    Args:
        bits: see ``_as_bits``; the last ``radius`` columns of each row are empty.
        width: of a row.
        radius: in pixels.

    Returns:
        The dilated map; pixels that it has left or right of the frame lie in the empty columns.
    """
    row, reach = bits, 0  # the map, dilated with a row of 2 * reach + 1 pixels
    found, height = 0, radius
    for y in range(radius, -1, -1):
        longer = int(np.sqrt(radius**2 - y**2))
        if y == radius or longer > reach:
            found, height = _grown(found, height - y, width), y
            row, reach = _grown(row, longer - reach, 1), longer
            found |= row
    return _grown(found, height, width)


def _grown(bits: int, steps: int, unit: int) -> int:
    """The map joined with itself, moved by 1 to ``steps`` units both ways; each pass trebles what is reached."""
    reached = 0
    while reached < steps:
        step = min(steps - reached, 2 * reached + 1)
        bits |= bits << step * unit | bits >> step * unit
        reached += step
    return bits


def boundary_map(mask: Mask) -> Mask:
    """(H, W) pixels that differ from their right, lower or lower right neighbor (Martin's seg2bmap)."""
    edge = np.zeros(mask.shape, bool)
    here = mask[:-1, :-1]
    edge[:-1, :-1] = (here != mask[:-1, 1:]) | (here != mask[1:, :-1]) | (here != mask[1:, 1:])
    edge[-1, :-1] = mask[-1, :-1] != mask[-1, 1:]
    edge[:-1, -1] = mask[:-1, -1] != mask[1:, -1]
    return edge


def near(places: NDArray[np.integer], others: NDArray[np.integer], width: int, radius: int) -> NDArray[np.bool_]:
    """Whether each place has another one within a disk.

    Args:
        places: (N,) row * width + column, of any order.
        others: (M,) likewise, ascending; the last ``radius`` columns of each row are empty.
        width: of a row.
        radius: of the disk, in pixels.

    Returns:
        (N,) each is tested on the rows of its disk, one search in ``others`` a row; most are near on the first ones.
    """
    found = np.zeros(len(places), bool)
    left = np.arange(len(places))
    ended = np.append(others, np.iinfo(others.dtype).max).astype(others.dtype)
    for distance in range(radius + 1):
        reach = int(np.sqrt(radius**2 - distance**2))
        for y in {-distance, distance}:
            row = places[left] + y * width
            hit = ended[np.searchsorted(others, row - reach)] <= row + reach
            found[left[hit]] = True
            left = left[~hit]
    return found


def statistics(values: NDArray[np.float64]) -> Statistics:
    """Mean, recall and decay of the values of a sequence's scored frames.

    The quarters are the official ones: their ends are shared. (The official code keeps the ends in eight bits, which
    goes wrong from 257 frames on; this one does not.)

    Raises:
        ValueError: no values.
    """
    if values.ndim != 1 or not len(values):
        raise ValueError(f"expected the values of one frame or more, got {values.shape}")
    ends = (np.round(np.linspace(1, len(values), _BINS + 1) + 1e-10) - 1).astype(np.int64)
    first, last = values[ends[0] : ends[1] + 1], values[ends[-2] : ends[-1] + 1]
    return Statistics(float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean()))


@dataclass(frozen=True)
class ObjectTrack:
    """Scores of one object of one sequence.

    Attributes:
        sequence, object: its name and number (1 where all objects are merged).
        frames: (N,) names of the scored frames, without the first and last of the sequence.
        j, f: (N,) of each frame, in [0, 1].
    """

    sequence: str
    object: int
    frames: tuple[str, ...]
    j: NDArray[np.float64]
    f: NDArray[np.float64]


@dataclass(frozen=True)
class TrackingScores:
    """J and F over all objects of all sequences; each statistic is the mean over objects.

    Attributes:
        j, f: mean, recall, decay.
        j_and_f: mean of the two means.
        tracks: one per object.
    """

    j: Statistics
    f: Statistics
    j_and_f: float
    tracks: tuple[ObjectTrack, ...]


def score_objects(
    sequence: str,
    objects: Mapping[int, int],
    frames: Iterable[tuple[str, NDArray[np.integer], NDArray[np.integer]]],
) -> list[ObjectTrack]:
    """J and F of every object of a sequence.

    Args:
        sequence: its name.
        objects: number of each object -> how many of the frames come before it is scored (0 for those of the first
            mask; see ``data.masks.find_objects``).
        frames: for each scored frame its name, true mask and predicted mask (H, W), numbers of objects and 0 for none.

    Returns:
        One track for each object that has a scored frame.
    """
    values: dict[int, dict[str, tuple[float, float]]] = {number: {} for number in objects}
    for index, (name, truth, prediction) in enumerate(frames):
        for number, before in objects.items():
            if index >= before:
                pair = truth == number, prediction == number
                values[number][name] = region_similarity(*pair), contour_accuracy(*pair)
    found = {number: np.array(list(own.values()), np.float64) for number, own in values.items() if own}
    return [ObjectTrack(sequence, number, tuple(values[number]), own[:, 0], own[:, 1]) for number, own in found.items()]


def summarize(tracks: Sequence[ObjectTrack]) -> TrackingScores:
    """The scores of a set, averaged as the official scorer does: over objects, whatever the length of their sequences.

    Raises:
        ValueError: there is no track.
    """
    if not tracks:
        raise ValueError("no track to score")
    j, f = (
        Statistics(*(float(np.mean(column)) for column in zip(*(statistics(values) for values in part), strict=True)))
        for part in ([track.j for track in tracks], [track.f for track in tracks])
    )
    return TrackingScores(j, f, (j.mean + f.mean) / 2, tuple(tracks))


def _check_sizes(truth: Mask, prediction: Mask) -> None:
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise ValueError(f"expected two masks of one size (H, W), got {truth.shape} and {prediction.shape}")
