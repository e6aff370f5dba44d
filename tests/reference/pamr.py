"""Pixel-adaptive mask refinement, one pixel and one neighbour at a time."""

import math

import torch
from torch import Tensor


def refine(image: Tensor, scores: Tensor, dilations: tuple[int, ...], iterations: int) -> Tensor:
    """picture (3, H, W), scores (C, H, W) -> (C, H, W)."""
    _, height, width = image.shape

    def around(y: int, x: int) -> list[tuple[int, int]]:
        places = []
        for reach in dilations:
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if dy or dx:
                        places.append((min(max(y + reach * dy, 0), height - 1), min(max(x + reach * dx, 0), width - 1)))
        return places

    def deviation(channel: int, y: int, x: int) -> float:
        own = [float(image[channel, y, x])] * len(dilations)
        values = own + [float(image[channel, v, u]) for v, u in around(y, x)]
        mean = sum(values) / len(values)
        return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))

    def weights(y: int, x: int) -> list[float]:
        likeness = []
        for v, u in around(y, x):
            unlike = [abs(float(image[c, y, x] - image[c, v, u])) / (0.1 * deviation(c, y, x) + 1e-8) for c in range(3)]
            likeness.append(math.exp(-sum(unlike) / 3))
        return [value / sum(likeness) for value in likeness]

    alpha = {(y, x): weights(y, x) for y in range(height) for x in range(width)}
    for _ in range(iterations):
        new = torch.zeros_like(scores)
        for (y, x), shares in alpha.items():
            for share, (v, u) in zip(shares, around(y, x), strict=True):
                new[:, y, x] += share * scores[:, v, u]
        scores = new
    return scores
