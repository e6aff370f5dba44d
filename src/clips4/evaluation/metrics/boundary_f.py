"""Boundary F of semantic segmentation: the quality of outlines, whatever the quality of areas."""

import numpy as np
from numpy.typing import NDArray

from clips4.data.label_maps import ignore_value
from clips4.evaluation.metrics.davis import matching_radius, near

BOUND = 0.0075  # tolerance as a share of the diagonal, as in Csurka et al.


def boundary_f(
    truth: NDArray[np.integer], prediction: NDArray[np.integer], classes: int, bound: float = BOUND
) -> float | None:
    """Mean over the classes of one image of the F of their outlines.

    After Csurka et al., "What is a good evaluation measure for semantic segmentation?" (BMVC 2013): for each class that
    occurs in truth or prediction, the boundary of its mask in both, matched within ``bound`` of the diagonal, gives an
    F; the image's score is their mean, and a set's the mean over its images. The matching is that of DAVIS's F
    (``davis.contour_accuracy``). Ignored pixels take the truth's side: they are in no class, of either map.

    Args:
        truth: (H, W) labels 0..K-1 or ``ignore_value(K)``.
        prediction: (H, W); values outside 0..K-1 are of no class.
        classes: K.

    Returns:
        In [0, 1]; None where every pixel is ignored.
    """
    ignored = ignore_value(classes)
    counted = truth != ignored
    if not counted.any():
        return None
    if not np.can_cast(np.min_scalar_type(ignored), prediction.dtype):
        prediction = prediction.astype(np.int64)
    maps = truth, np.where(counted, prediction, prediction.dtype.type(ignored))
    radius = matching_radius(truth.shape, bound)
    width = truth.shape[1] + radius
    area = width * (truth.shape[0] + radius)  # of a class: none has a pixel near another's
    true, predicted = (_boundaries(each, classes, width, area) for each in maps)
    sizes, matched = [], []
    for places, others in ((true, predicted), (predicted, true)):
        owner, close = places // area, near(places, others, width, radius)
        sizes.append(np.bincount(owner, minlength=classes))
        matched.append(np.bincount(owner[close], minlength=classes))
    with np.errstate(invalid="ignore"):
        recall, precision = (part / whole for part, whole in zip(matched, sizes, strict=True))
        score = np.nan_to_num(2 * precision * recall / (precision + recall))
    score[(sizes[0] == 0) & (sizes[1] == 0)] = 1
    occurs = (sizes[0] > 0) | (sizes[1] > 0)
    for each, size in zip(maps, sizes, strict=True):
        if not size.any() and 0 <= each[0, 0] < classes:
            occurs[each[0, 0]] = True  # all of the map is this class, which has no boundary
    return float(np.mean(score[occurs]))


def _boundaries(labels: NDArray[np.integer], classes: int, width: int, area: int) -> NDArray[np.integer]:
    """The boundary pixels of all classes, as ``davis.boundary_map`` finds those of each class's mask.

    A pixel that differs from its right, lower or lower right neighbor is on the boundary of every class among the four.

    Args:
        labels: (H, W); values outside 0..K-1 are of no class.
        classes: K.
        width: of a row, at least W.
        area: of a class.

    Returns:
        Class * area + row * width + column of each, ascending.
    """
    columns = labels.shape[1]
    beside = np.pad(labels, ((0, 1), (0, 1)), "edge")
    right, below, across = beside[:-1, 1:], beside[1:, :-1], beside[1:, 1:]
    edge = np.flatnonzero((labels != right) | (labels != below) | (labels != across))
    number = np.int32 if (classes + 1) * area < 2**31 else np.int64  # smaller ones are found faster
    values = [np.take(each, edge).astype(np.int64) for each in (labels, right, below, across)]
    places = edge + edge // columns * (width - columns)
    found = []
    for index, value in enumerate(values):
        new = (value >= 0) & (value < classes)
        for earlier in values[:index]:
            new &= value != earlier
        found.append((value[new] * area + places[new]).astype(number))
    return np.sort(np.concatenate(found))
