"""ProxyCLIP's and SC-CLIP's readings of the last block, one patch and one head at a time, by the papers' equations."""

import math
from typing import Any

import torch
from torch import Tensor

from tests.reference.dense_attention import layer_norm, linear


def cosines(rows: list[Tensor]) -> list[list[float]]:
    return [[float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for b in rows] for a in rows]


def masked_softmax(similarity: list[list[float]], beta: float, gamma: float) -> list[list[float]]:
    """softmax_j(gamma (S_ij - beta mean S)) over those that are not negative, and i itself."""
    count = len(similarity)
    mean = sum(map(sum, similarity)) / count**2
    rows = []
    for i, row in enumerate(similarity):
        energies = [gamma * (value - beta * mean) for value in row]
        powers = [math.exp(e) if e >= 0 or i == j else 0.0 for j, e in enumerate(energies)]
        rows.append([power / sum(powers) for power in powers])
    return rows


def proxyclip(layer: Any, x: Tensor, features: Tensor, beta: float = 1.2, gamma: float = 3.0) -> Tensor:
    """Tokens (1 + N, W) and features (C, h, w) at the same patches -> (N, W)."""
    weights = masked_softmax(cosines(list(features.flatten(1).T)), beta, gamma)
    values = [linear(layer_norm(token, layer.layer_norm1), layer.self_attn.v_proj) for token in x[1:]]
    mixed = [sum((w * v for w, v in zip(row, values, strict=True)), torch.zeros_like(values[0])) for row in weights]
    return torch.stack([linear(each, layer.self_attn.out_proj) for each in mixed])


def local_outlier_factors(points: list[Tensor], neighbors: int) -> list[float]:
    count = len(points)
    k = min(neighbors, count - 1)
    distance = [[float((a - b).norm()) for b in points] for a in points]
    nearest = [sorted((j for j in range(count) if j != i), key=lambda j: distance[i][j])[:k] for i in range(count)]
    radius = [distance[i][nearest[i][-1]] for i in range(count)]
    reach = [sum(max(radius[j], distance[i][j]) for j in nearest[i]) / k for i in range(count)]
    density = [1 / (each + 1e-10) for each in reach]
    return [sum(density[j] for j in nearest[i]) / k / density[i] for i in range(count)]


def anomalous(factors: list[float], share: float = 0.05) -> list[bool]:
    """Above the quantile, which is interpolated between the two values it lies between."""
    place = (1 - share) * (len(factors) - 1)
    ordered = sorted(factors)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    limit = low + (place - math.floor(place)) * (high - low)
    return [factor > limit for factor in factors]


def interpolated(patches: list[Tensor], wrong: list[bool], grid: tuple[int, int]) -> list[Tensor]:
    height, width = grid
    result = []
    for i, patch in enumerate(patches):
        y, x = divmod(i, width)
        around = [
            patches[v * width + u]
            for v in range(max(0, y - 1), min(height, y + 2))
            for u in range(max(0, x - 1), min(width, x + 2))
            if not wrong[v * width + u]
        ]
        result.append(torch.stack(around).mean(0) if wrong[i] and around else patch)
    return result


def mixed(weights_from: list[Tensor], values: list[Tensor], least: float = 0.4) -> list[Tensor]:
    result = []
    for row in cosines(weights_from):
        kept = [value if value >= least else 0.0 for value in row]
        terms = [w / sum(kept) * value for w, value in zip(kept, values, strict=True)]
        result.append(torch.stack(terms).sum(0))
    return result


def last(layer: Any, x: list[Tensor], class_token: Tensor, similar: list[list[float]]) -> list[Tensor]:
    attention = layer.self_attn
    h = [layer_norm(token, layer.layer_norm1) for token in x]
    keys, values = ([linear(token, part) for token in h] for part in (attention.k_proj, attention.v_proj))
    depth = len(x[0]) // attention.num_heads
    result = []
    for i in range(len(x)):
        parts = []
        for head in range(attention.num_heads):
            own = slice(head * depth, (head + 1) * depth)
            powers = [math.exp(float(keys[i][own] @ key[own]) / math.sqrt(depth)) for key in keys]
            weights = [(s + p / sum(powers)) / 2 for s, p in zip(similar[i], powers, strict=True)]
            parts.append(torch.stack([w * value[own] for w, value in zip(weights, values, strict=True)]).sum(0))
        result.append(linear(torch.cat(parts), attention.out_proj) + 0.3 * class_token)
    return result


def sc_clip(layer: Any, tokens: list[Tensor], grid: tuple[int, int], shallow: int, middle: int) -> Tensor:
    """Tokens (1 + N, W) after each number of blocks, but the last -> (N, W)."""
    entering = list(tokens[-1][1:])
    wrong = anomalous(local_outlier_factors(entering, 30))
    patches, mid = (interpolated(list(each[1:]), wrong, grid) for each in (tokens[-1], tokens[middle]))
    similar = masked_softmax(cosines(mid), 1.0, 3.0)
    deep = last(layer, mixed(mid, patches), tokens[-1][0], similar)
    fused = torch.stack(tokens[shallow : middle + 2]).sum(0)
    detailed = last(layer, list(fused[1:]), fused[0], similar)
    total = [a + b for a, b in zip(deep, detailed, strict=True)]
    return torch.stack(mixed(list(tokens[shallow][1:]), total))
