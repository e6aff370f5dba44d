"""One confusion matrix over a whole set, and the scores that follow from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORE = 255  # label value that leaves both intersection and union


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix.

    Attributes:
        miou: mean IoU over the classes that occur in truth or prediction, in [0, 1].
        miou_present: mean IoU over the classes that occur in the truth.
        pixel_accuracy: share of the scored pixels that are right.
        mean_accuracy: mean over the truth's classes of the share of their pixels that are right.
        iou: (K,) IoU of each class; NaN where it occurs neither in truth nor in prediction.
        present: (K,) whether the truth has the class.
        pixels: number of scored pixels.
    """

    miou: float
    miou_present: float
    pixel_accuracy: float
    mean_accuracy: float
    iou: NDArray[np.float64]
    present: NDArray[np.bool_]
    pixels: int


def confusion_matrix(truth: NDArray[np.integer], prediction: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count pixels by (true class, predicted class).

    Args:
        truth: labels 0..K-1, or ``IGNORE`` for pixels that do not count.
        prediction: same shape; any other value than 0..K-1 (such as "unknown") counts as wrong.
        classes: K.

    Returns:
        (K, K + 1) counts; the last column holds the predictions outside 0..K-1.

    Raises:
        ValueError: shapes differ, or the truth has other values.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in size")
    counted = truth != IGNORE
    true = truth[counted].astype(np.int64)
    if true.size and (true.min() < 0 or true.max() >= classes):
        raise ValueError(f"truth holds values {true.min()}..{true.max()}, expected 0..{classes - 1} or {IGNORE}")
    predicted = prediction[counted].astype(np.int64)
    predicted = np.where((predicted >= 0) & (predicted < classes), predicted, classes)
    return np.bincount(true * (classes + 1) + predicted, minlength=classes * (classes + 1)).reshape(classes, -1)


def scores(confusion: NDArray[np.int64]) -> Scores:
    """Scores of a (K, K + 1) confusion matrix of the whole set.

    Raises:
        ValueError: the matrix is empty, so that there is nothing to score.
    """
    total = int(confusion.sum())
    if total == 0:
        raise ValueError("no pixel to score: the truth is ignored everywhere")
    right = np.diag(confusion).astype(np.float64)
    true = confusion.sum(1)
    union = true + confusion[:, : len(confusion)].sum(0) - right
    with np.errstate(invalid="ignore"):
        iou = np.where(union > 0, right / union, np.nan)
        accuracy = np.where(true > 0, right / true, np.nan)
    present = true > 0
    return Scores(
        miou=float(np.nanmean(iou)),
        miou_present=float(iou[present].mean()),
        pixel_accuracy=float(right.sum() / total),
        mean_accuracy=float(np.nanmean(accuracy)),
        iou=iou,
        present=present,
        pixels=total,
    )
