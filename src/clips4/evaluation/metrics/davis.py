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
    true, predicted = boundary_map(truth), boundary_map(prediction)
    true_pixels, predicted_pixels = _places(true), _places(predicted)
    if not len(true_pixels) or not len(predicted_pixels):
        return float(len(true_pixels) == len(predicted_pixels))
    radius = int(bound) if bound >= 1 else int(np.ceil(bound * np.linalg.norm(truth.shape)))
    precision = _share_near(predicted_pixels, true, true_pixels, radius)
    recall = _share_near(true_pixels, predicted, predicted_pixels, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _places(mask: Mask) -> NDArray[np.intp]:
    """``np.argwhere``, faster."""
    return np.stack(np.divmod(np.flatnonzero(mask), mask.shape[1]), 1)


def boundary_map(mask: Mask) -> Mask:
    """(H, W) pixels that differ from their right, lower or lower right neighbor (Martin's seg2bmap)."""
    edge = np.zeros(mask.shape, bool)
    here = mask[:-1, :-1]
    edge[:-1, :-1] = (here != mask[:-1, 1:]) | (here != mask[1:, :-1]) | (here != mask[1:, 1:])
    edge[-1, :-1] = mask[-1, :-1] != mask[-1, 1:]
    edge[:-1, -1] = mask[:-1, -1] != mask[1:, -1]
    return edge


def _share_near(pixels: NDArray[np.intp], other: Mask, other_pixels: NDArray[np.intp], radius: int) -> float:
    """Share of ``pixels`` (N, 2) that have a pixel of ``other`` within a disk.

    Only boundary pixels are tested, each on the 2 r + 1 rows of its disk: the number of pixels of ``other`` in part of
    a row is the difference of two running sums.
    """
    rows, columns = pixels.T
    top, left = other_pixels.min(0).tolist()
    bottom, right = (other_pixels.max(0) + 1).tolist()
    counter = np.int16 if right - left < 2**15 else np.int32  # half the memory to go through
    sums = np.zeros((bottom - top, right - left + 1), counter)
    np.cumsum(other[top:bottom, left:right], axis=1, dtype=counter, out=sums[:, 1:])
    height, width = sums.shape[0], sums.shape[1] - 1
    found = np.zeros(len(rows), bool)
    left_over = np.arange(len(rows))  # those not yet matched; most are by the first rows
    for distance in range(radius + 1):
        reach = int(np.sqrt(radius**2 - distance**2))
        for y in {-distance, distance}:
            row, column = rows[left_over] + y - top, columns[left_over] - left
            if not len(left_over):
                return 1.0
            start, stop = (np.minimum(np.maximum(column + side, 0), width) for side in (-reach, reach + 1))
            inside = (row >= 0) & (row < height)
            row = np.minimum(np.maximum(row, 0), height - 1)  # np.clip is slower for few pixels
            hit = inside & (sums[row, stop] > sums[row, start])
            found[left_over[hit]] = True
            left_over = left_over[~hit]
    return float(np.count_nonzero(found) / len(found))


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
