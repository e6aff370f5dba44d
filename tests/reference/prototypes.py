"""Class prototypes by loops over classes and segments."""

import torch
from torch import Tensor

from tests.reference.segments import dot, normalise


def known_prototypes(text: Tensor, segments: Tensor, m: int) -> Tensor:
    """c_l = normalised sum of the m segments of largest cosine to text_l."""
    rows = []
    for vector in text:
        by_likeness = sorted(range(len(segments)), key=lambda s: -float(dot(vector, segments[s])))
        total = torch.zeros(segments.shape[1], dtype=segments.dtype)
        for s in by_likeness[:m]:
            total = total + segments[s]
        rows.append(normalise(total))
    return torch.stack(rows)


def assign(guidance: Tensor, prototypes: Tensor) -> list[int]:
    """y_s = argmax_l i_s . c_l."""
    labels = []
    for i in guidance:
        likeness = [float(dot(i, c)) for c in prototypes]
        labels.append(likeness.index(max(likeness)))
    return labels


def update_unknown(unknown: Tensor, known: Tensor, guidance: Tensor, step: float) -> Tensor:
    """c_l <- normalise((1 - step) c_l + step mean of its i_s), where y_s ranges over known and unknown."""
    labels = assign(guidance, torch.cat([known, unknown]))
    rows = []
    for index, c in enumerate(unknown):
        mine = [guidance[s] for s, label in enumerate(labels) if label == len(known) + index]
        rows.append(normalise((1 - step) * c + step * torch.stack(mine).mean(0)) if mine else c)
    return torch.stack(rows)
