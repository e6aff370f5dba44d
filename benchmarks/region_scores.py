"""How well regions agree with human segmentations: covering, boundaries, undersegmentation.

Protocol ``clips4-regions-v1``. An image has several human segmentations; sums run over all of them, and scores over a
set divide summed numerators by summed denominators, as the benchmark code of BSDS500 does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clips4.utils.images import boundaries

PROTOCOL = "clips4-regions-v1"
TOLERANCE = 2.0  # pixels

Labels = NDArray[np.integer]
Counts = NDArray[np.int64]


def overlaps(labels: Labels, truth: Labels) -> Counts:
    """(H, W) regions 0.. and (H, W) truth 0.. -> (R, G) pixels that each two share."""
    if labels.shape != truth.shape:
        raise ValueError(f"regions {labels.shape} and truth {truth.shape} differ in shape")
    rows, columns = int(labels.max()) + 1, int(truth.max()) + 1
    keys = labels.ravel().astype(np.int64) * columns + truth.ravel()
    return np.bincount(keys, minlength=rows * columns).reshape(rows, columns)


def merged(shared: Counts, table: NDArray[np.integer]) -> Counts:
    """The overlaps (L, G) of leaves, once leaf i has become region ``table[i]`` -> (R, G)."""
    result = np.zeros((int(table.max()) + 1, shared.shape[1]), np.int64)
    np.add.at(result, table, shared)
    return result


def covering(shared: Counts) -> float:
    """Covering of the truth by regions (Arbelaez et al. 2011, eq. 9).

    The mean, over the truth's regions weighted by area, of the best intersection over union.

    Args:
        shared: (R, G) see ``overlaps``.

    Returns:
        In (0, 1]; 1 where the two are the same.
    """
    own, theirs = shared.sum(1, keepdims=True), shared.sum(0, keepdims=True)
    union = own + theirs - shared
    best = (shared / np.maximum(union, 1)).max(0)
    return float((best * theirs[0]).sum() / theirs.sum())


def undersegmentation(shared: Counts) -> float:
    """Undersegmentation error, the share of pixels that leak over the truth's borders (Neubert & Protzel 2012).

    For every region that overlaps a part of the truth: the smaller of its pixels inside and outside that part.
    """
    own = shared.sum(1, keepdims=True)
    return float(np.minimum(shared, own - shared).sum() / shared.sum())


def boundary_matches(
    labels: Labels, truths: Sequence[Labels], tolerance: float = TOLERANCE
) -> tuple[int, int, int, int]:
    """Boundary pixels that have a partner within ``tolerance`` pixels.

    Returns:
        Boundary pixels of the truths, summed over them, that have one of the regions near; how many there are;
        boundary pixels of the regions that have one of *any* truth near; how many there are.
    """
    own = boundaries(labels)
    theirs = [boundaries(truth) for truth in truths]
    near_own = within(own, tolerance)
    near_any = within(np.logical_or.reduce(theirs), tolerance)
    found = sum(int((edges & near_own).sum()) for edges in theirs)
    return found, sum(int(edges.sum()) for edges in theirs), int((own & near_any).sum()), int(own.sum())


def within(mask: NDArray[np.bool_], distance: float) -> NDArray[np.bool_]:
    """(H, W) pixels no farther than ``distance`` from one of the mask."""
    from scipy.ndimage import binary_dilation

    reach = int(distance)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    result: NDArray[np.bool_] = binary_dilation(mask, y * y + x * x <= distance * distance)
    return result


@dataclass(frozen=True)
class Scores:
    """Scores of regions over a set of images; see the functions of the same names.

    Attributes:
        regions: mean number per image.
        covering, undersegmentation: means over all human segmentations.
        recall, precision: of boundary pixels.
    """

    regions: float
    covering: float
    recall: float
    precision: float
    undersegmentation: float


def score(partitions: Sequence[Labels], truths: Sequence[Sequence[Labels]]) -> Scores:
    """Score the regions (H, W) of each image against its human segmentations."""
    cover, under, weights, matches = [], [], [], []
    for labels, of_image in zip(partitions, truths, strict=True):
        for truth in of_image:
            shared = overlaps(labels, truth)
            cover.append(covering(shared))
            under.append(undersegmentation(shared))
            weights.append(labels.size)
        matches.append(boundary_matches(labels, of_image))
    found, there, right, drawn = np.array(matches).sum(0).tolist()
    return Scores(
        regions=float(np.mean([int(labels.max()) + 1 for labels in partitions])),
        covering=float(np.average(cover, weights=weights)),
        recall=found / max(there, 1),
        precision=right / max(drawn, 1),
        undersegmentation=float(np.average(under, weights=weights)),
    )


def best_scales(per_scale: NDArray[np.floating], weights: NDArray[np.floating]) -> tuple[float, int, float]:
    """Optimal data-set scale and optimal image scale.

    Args:
        per_scale: (N, S) score of each image at each scale.
        weights: (N,) weight of each image: pixels times human segmentations.

    Returns:
        ODS, the score at the scale that is best for the set; the index of that scale; OIS, with the best scale of each
        image.
    """
    means = np.average(per_scale, axis=0, weights=weights)
    return float(means.max()), int(means.argmax()), float(np.average(per_scale.max(1), weights=weights))
