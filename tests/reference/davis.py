"""J and F of DAVIS, as the paper's formulas and the official scorer say them, step by step."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from skimage.morphology import disk


def jaccard(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> float:
    """J = |M and G| / |M or G|."""
    union = np.logical_or(truth, prediction).sum()
    return 1.0 if union == 0 else float(np.logical_and(truth, prediction).sum() / union)


def seg2bmap(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Boundary pixels: those unlike the neighbour to the east, the south or the south-east."""
    east, south, south_east = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    east[:, :-1] = mask[:, 1:]
    south[:-1, :] = mask[1:, :]
    south_east[:-1, :-1] = mask[1:, 1:]
    boundary = (mask ^ east) | (mask ^ south) | (mask ^ south_east)
    boundary[-1, :] = mask[-1, :] ^ east[-1, :]
    boundary[:, -1] = mask[:, -1] ^ south[:, -1]
    boundary[-1, -1] = False
    return boundary


def f_measure(truth: NDArray[np.bool_], prediction: NDArray[np.bool_], bound: float = 0.008) -> float:
    """F = 2 P R / (P + R), P and R by dilating each boundary with a disk."""
    radius = math.ceil(bound * math.hypot(*truth.shape))
    true, predicted = seg2bmap(truth), seg2bmap(prediction)
    true_dilated = binary_dilation(true, disk(radius))
    predicted_dilated = binary_dilation(predicted, disk(radius))
    true_count, predicted_count = true.sum(), predicted.sum()
    if predicted_count == 0 and true_count > 0:
        precision, recall = 1.0, 0.0
    elif predicted_count > 0 and true_count == 0:
        precision, recall = 0.0, 1.0
    elif predicted_count == 0 and true_count == 0:
        precision, recall = 1.0, 1.0
    else:
        precision = (predicted & true_dilated).sum() / predicted_count
        recall = (true & predicted_dilated).sum() / true_count
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def mean_recall_decay(values: list[float]) -> tuple[float, float, float]:
    """Statistics over the scored frames, quarters counted from 1 as the official code does."""
    n = len(values)
    mean = sum(values) / n
    recall = sum(value > 0.5 for value in values) / n
    # the edges of four bins: 1, ..., n, rounded (halves to even, which 1e-10 turns upwards), counted from 0
    edges = [round(1 + k * (n - 1) / 4 + 1e-10) - 1 for k in range(5)]
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return mean, recall, sum(first) / len(first) - sum(last) / len(last)
