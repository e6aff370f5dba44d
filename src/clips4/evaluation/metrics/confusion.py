"""One confusion matrix over a whole set, and the scores that follow from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clips4.data.label_maps import IGNORE, ignore_value
from clips4.data.pairs import names_of


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
        truth: labels 0..K-1, or ``ignore_value(K)`` for pixels that do not count.
        prediction: same shape; any other value than 0..K-1 (such as "unknown") counts as wrong.
        classes: K.

    Returns:
        (K, K + 1) counts; the last column holds the predictions outside 0..K-1.

    Raises:
        ValueError: shapes differ, or the truth has other values.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in size")
    if truth.dtype == prediction.dtype == np.uint8 and classes <= IGNORE:
        return _of_bytes(truth.astype(np.uint8, copy=False), prediction.astype(np.uint8, copy=False), classes)
    counted = truth != ignore_value(classes)
    true = truth[counted].astype(np.int64)
    _check_truth(int(true.min(initial=0)), int(true.max(initial=0)), classes)
    predicted = prediction[counted].astype(np.int64)
    predicted = np.where((predicted >= 0) & (predicted < classes), predicted, classes)
    return np.bincount(true * (classes + 1) + predicted, minlength=classes * (classes + 1)).reshape(classes, -1)


def _of_bytes(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """``confusion_matrix`` of 8-bit maps: all 256 x 256 pairs are counted in one pass, then folded."""
    pairs = np.bincount((truth.astype(np.uint16) << 8 | prediction).ravel(), minlength=256 * 256).reshape(256, 256)
    occurring = np.flatnonzero(pairs[:IGNORE].any(1))
    if occurring.size:
        _check_truth(int(occurring[0]), int(occurring[-1]), classes)
    counts = np.zeros((classes, classes + 1), np.int64)
    counts[:, :classes] = pairs[:classes, :classes]
    counts[:, classes] = pairs[:classes, classes:].sum(1)
    return counts


def _check_truth(lowest: int, highest: int, classes: int) -> None:
    if lowest < 0 or highest >= classes:
        expected = f"0..{classes - 1} or {ignore_value(classes)}"
        raise ValueError(f"truth holds values {lowest}..{highest}, expected {expected}")


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


class ImageScore(NamedTuple):
    """Of one image; its own matrix is not kept.

    Attributes:
        miou: mean IoU over the classes of its truth; NaN where every pixel is ignored.
        pixel_accuracy: NaN likewise.
        pixels: scored.
    """

    miou: float
    pixel_accuracy: float
    pixels: int


class Tally:
    """The counts of a set: their sum, and a line for each image, so that memory hardly grows with the set.

    Args:
        classes: K; matrices are (K, K + 1).

    Attributes:
        total: sum so far.
        images: a line for each image so far.
    """

    def __init__(self, classes: int):
        self.total = np.zeros((classes, classes + 1), np.int64)
        self.images: list[ImageScore] = []

    def add(self, counts: NDArray[np.int64]) -> None:
        """Add the (K, K + 1) confusion matrix of one image."""
        self.total += counts
        if not counts.any():
            self.images.append(ImageScore(float("nan"), float("nan"), 0))
            return
        own = scores(counts)
        self.images.append(ImageScore(own.miou_present, own.pixel_accuracy, own.pixels))


@dataclass(frozen=True)
class SetScores:
    """Scores of a set and where they come from.

    Attributes:
        scores: of the one confusion matrix.
        confusion: (K, K + 1) that matrix.
        names, images: name and score of each image.
        matching: for clusters: (k,) class of each cluster, -1 for none.
    """

    scores: Scores
    confusion: NDArray[np.int64]
    names: tuple[str, ...]
    images: tuple[ImageScore, ...]
    matching: NDArray[np.int64] | None = None

    @classmethod
    def collect(cls, images: Sequence[Path], counts: Tally, matching: NDArray[np.int64] | None = None) -> "SetScores":
        """The scores of a set from the counts of its images, in their order."""
        return cls(scores(counts.total), counts.total, names_of(images), tuple(counts.images), matching)
