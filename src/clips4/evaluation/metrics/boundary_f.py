"""Boundary F of semantic segmentation: the quality of outlines, whatever the quality of areas."""

import numpy as np
from numpy.typing import NDArray

from clips4.data.label_maps import distinct, ignore_value
from clips4.evaluation.metrics.davis import contour_accuracy

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
    counted = truth != ignore_value(classes)
    if not counted.any():
        return None
    seen = sorted({*distinct(truth[counted]), *distinct(prediction[counted])})
    scores = [
        contour_accuracy(counted & (truth == label), counted & (prediction == label), bound)
        for label in seen
        if 0 <= label < classes
    ]
    return float(np.mean(scores))
