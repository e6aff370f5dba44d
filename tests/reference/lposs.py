"""LPOSS, edge by edge, with the inverse of the whole matrix."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def graph(features: Array, neighbors: int, gamma: float, sigma: float, side: int = 512) -> Array:
    """(C, h, w) unit features -> S (N, N)."""
    _, height, width = features.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    cell = side / max(height, width)
    weights = np.zeros((len(places), len(places)))
    for i, (y, x) in enumerate(places):
        cosines = [float(features[:, y, x] @ features[:, v, u]) for v, u in places]
        others = sorted((j for j in range(len(places)) if j != i), key=lambda j: -cosines[j])
        for j in others[:neighbors]:
            v, u = places[j]
            distance = cell * math.sqrt((y - v) ** 2 + (x - u) ** 2)
            weights[i, j] = max(cosines[j], 0.0) ** gamma * math.exp(-sigma * distance)
    weights = weights + weights.T
    degree = weights.sum(1)
    normalized = np.zeros_like(weights)
    for i in range(len(places)):
        for j in range(len(places)):
            if degree[i] > 0 and degree[j] > 0:
                normalized[i, j] = weights[i, j] / math.sqrt(degree[i] * degree[j])
    return normalized


def propagate(scores: Array, normalized: Array, alpha: float) -> Array:
    """(L, h, w) -> (1 - alpha) (I - alpha S)^-1 of each class, the same shape."""
    inverse = np.linalg.inv(np.eye(len(normalized)) - alpha * normalized)
    return np.stack([(1 - alpha) * (inverse @ each.ravel()).reshape(each.shape) for each in scores])
