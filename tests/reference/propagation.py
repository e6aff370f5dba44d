"""Label propagation, pixel by pixel, as the recipe says it."""

import math

from torch import Tensor


def propagate(
    z: Tensor, sources: list[Tensor], labels: list[Tensor], radius: int, top: int, temperature: float
) -> list[list[list[float]]]:
    """(D, h, w), T of (D, h, w), T of (C, h, w) -> (C, h, w) as nested lists."""
    _, height, width = z.shape
    classes = labels[0].shape[0]
    out = [[[0.0] * width for _ in range(height)] for _ in range(classes)]
    for y in range(height):
        for x in range(width):
            candidates = []
            for source, label in zip(sources, labels, strict=True):
                for v in range(max(0, y - radius), min(height, y + radius + 1)):
                    for u in range(max(0, x - radius), min(width, x + radius + 1)):
                        candidates.append((float(z[:, y, x] @ source[:, v, u]), label[:, v, u]))
            candidates.sort(key=lambda pair: -pair[0])
            kept = candidates[:top]
            weights = [math.exp(cosine / temperature) for cosine, _ in kept]
            for c in range(classes):
                mixed = sum(w * float(label[c]) for w, (_, label) in zip(weights, kept, strict=True))
                out[c][y][x] = mixed / sum(weights)
    return out
