"""Class prototypes by loops over classes and segments."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tests.reference.segments import dot, unit_vector


def known_prototypes(text: Tensor, segments: Tensor, m: int) -> Tensor:
    """c_l = normalised sum of the m segments of largest cosine to text_l."""
    rows = []
    for vector in text:
        by_likeness = sorted(range(len(segments)), key=lambda s: -float(dot(vector, segments[s])))
        total = torch.zeros(segments.shape[1], dtype=segments.dtype)
        for s in by_likeness[:m]:
            total = total + segments[s]
        rows.append(unit_vector(total))
    return torch.stack(rows)


def nearest_prototypes(text: Tensor, segments: Tensor, m: int) -> list[Tensor]:
    """c_l1 .. c_lm = the m segments of largest cosine to text_l, for each class."""
    rows = []
    for vector in text:
        by_likeness = sorted(range(len(segments)), key=lambda s: -float(dot(vector, segments[s])))
        rows.append(torch.stack([unit_vector(segments[s]) for s in by_likeness[:m]]))
    return rows


def score(vector: Tensor, prototypes: Tensor) -> float:
    """max_j vector . c_lj over a class's prototypes (m, D), or the product with its only one (D,)."""
    return max(float(dot(vector, c)) for c in prototypes.reshape(-1, len(vector)))


def assign(guidance: Tensor, prototypes: Tensor | Sequence[Tensor]) -> list[int]:
    """y_s = argmax_l score_l(i_s)."""
    labels = []
    for i in guidance:
        likeness = [score(i, c) for c in prototypes]
        labels.append(likeness.index(max(likeness)))
    return labels


def update_unknown(unknown: Tensor, known: Tensor, guidance: Tensor, step: float) -> Tensor:
    """c_l <- unit_vector((1 - step) c_l + step mean of its i_s), where y_s ranges over known and unknown."""
    labels = assign(guidance, torch.cat([known, unknown]))
    rows = []
    for index, c in enumerate(unknown):
        mine = [guidance[s] for s, label in enumerate(labels) if label == len(known) + index]
        rows.append(unit_vector((1 - step) * c + step * torch.stack(mine).mean(0)) if mine else c)
    return torch.stack(rows)


def probabilities(vector: Tensor, prototypes: Tensor | Sequence[Tensor], temperature: float) -> list[float]:
    """softmax_l(score_l(vector) / tau)."""
    powers = [math.exp(score(vector, c) / temperature) for c in prototypes]
    return [power / sum(powers) for power in powers]


def class_weights(
    rows: Tensor, prototypes: Tensor | Sequence[Tensor], image: list[int], temperature: float
) -> dict[int, list[float]]:
    """Picture -> the mean of its rows' class probabilities."""
    weights = {}
    for which in set(image):
        own = [probabilities(row, prototypes, temperature) for row, i in zip(rows, image, strict=True) if i == which]
        weights[which] = [sum(column) / len(own) for column in zip(*own, strict=True)]
    return weights


def assign_in_context(
    guidance: Tensor, prototypes: Tensor | Sequence[Tensor], image: list[int], temperature: float, context: float
) -> list[int]:
    """y_s = argmax_l of p(l | i_s) times the class weight of its picture, to the power of ``context``."""
    weights = class_weights(guidance, prototypes, image, temperature)
    labels = []
    for i, which in zip(guidance, image, strict=True):
        p = probabilities(i, prototypes, temperature)
        likeness = [p_l * w_l**context for p_l, w_l in zip(p, weights[which], strict=True)]
        labels.append(likeness.index(max(likeness)))
    return labels


def mixture_round(
    z: Tensor, prototypes: Tensor, image: list[int], temperature: float, prior: Tensor | None = None
) -> Tensor:
    """One round of expectation maximisation with class weights per picture; the prior counts as much as all pixels."""
    weights = class_weights(z, prototypes, image, temperature)
    sums = [torch.zeros_like(z[0]) for _ in prototypes]
    for row, which in zip(z, image, strict=True):
        joint = [p * w for p, w in zip(probabilities(row, prototypes, temperature), weights[which], strict=True)]
        for index, share in enumerate(joint):
            sums[index] = sums[index] + share / sum(joint) * row
    found = [unit_vector(total) for total in sums]
    if prior is not None:
        found = [unit_vector(each + before) for each, before in zip(found, prior, strict=True)]
    return torch.stack(found)


def mixture_round_of_several(
    z: Tensor, prototypes: Sequence[Tensor], image: list[int], temperature: float, prior: Sequence[Tensor]
) -> list[Tensor]:
    """The same where class l has rows (m, D): what a pixel is worth to a class goes to its nearest row alone."""
    weights = class_weights(z, prototypes, image, temperature)
    sums = [[torch.zeros_like(z[0]) for _ in rows] for rows in prototypes]
    for row, which in zip(z, image, strict=True):
        joint = [p * w for p, w in zip(probabilities(row, prototypes, temperature), weights[which], strict=True)]
        for index, share in enumerate(joint):
            likeness = [float(dot(row, c)) for c in prototypes[index]]
            nearest = likeness.index(max(likeness))
            sums[index][nearest] = sums[index][nearest] + share / sum(joint) * row
    found = []
    for totals, before, priors in zip(sums, prototypes, prior, strict=True):
        rows = [
            unit_vector(unit_vector(total) + held) if total.abs().max() > 0 else old
            for total, old, held in zip(totals, before, priors, strict=True)
        ]
        found.append(torch.stack(rows))
    return found
