"""The last block of a CLIP vision transformer, one token and one head at a time, by each reading's own equation."""

import math
from typing import Any

import torch
from torch import Tensor


def layer_norm(x: Tensor, norm: Any) -> Tensor:
    mean = x.mean()
    variance = ((x - mean) ** 2).mean()
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def linear(x: Tensor, layer: Any) -> Tensor:
    return torch.stack([row @ x for row in layer.weight]) + layer.bias


def quick_gelu(x: Tensor) -> Tensor:
    return x / (1 + (-1.702 * x).exp())


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def feed_forward(layer: Any, y: Tensor, activation: str) -> Tensor:
    act = quick_gelu if activation == "quick_gelu" else gelu
    return y + linear(act(linear(layer_norm(y, layer.layer_norm2), layer.mlp.fc1)), layer.mlp.fc2)


def attended(weights: list[Tensor], values: list[Tensor]) -> Tensor:
    """One head, one query: sum_j softmax(weights)_j values_j."""
    exponentials = [weight.exp() for weight in weights]
    total = torch.stack(exponentials).sum()
    return torch.stack([e / total * v for e, v in zip(exponentials, values, strict=True)]).sum(0)


def omega(query: int, key: int, grid: tuple[int, int], sigma: float = 5.0) -> float:
    """Of patches ``query`` and ``key``; tokens are numbered with the class token as 0."""
    if key == 0:
        return 0.0
    (y, x), (v, u) = divmod(query - 1, grid[1]), divmod(key - 1, grid[1])
    return math.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * sigma**2))


def read(layer: Any, x: Tensor, kind: str, grid: tuple[int, int], activation: str) -> Tensor:
    """Tokens (1 + N, W) of one image before the last block -> (N, W) after it."""
    h = [layer_norm(token, layer.layer_norm1) for token in x]
    attention = layer.self_attn
    q, k, v = ([linear(token, part) for token in h] for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    heads, width = attention.num_heads, x.shape[1]
    depth = width // heads
    rows = []
    for i in range(1, len(x)):
        parts = []
        for head in range(heads):
            own = slice(head * depth, (head + 1) * depth)
            values = [token[own] for token in v]

            def products(a: list[Tensor], b: list[Tensor], i: int = i, own: slice = own) -> list[Tensor]:
                return [(a[i][own] * token[own]).sum() / math.sqrt(depth) for token in b]

            if kind == "vanilla":
                parts.append(attended(products(q, k), values))
            elif kind == "maskclip":
                parts.append(values[i])
            elif kind == "sclip":
                parts.append(attended(products(q, q), values) + attended(products(k, k), values))
            elif kind == "clearclip":
                parts.append(attended(products(q, q), values))
            elif kind == "naclip":
                near = [omega(i, j, grid) for j in range(len(x))]
                weights = [w + n for w, n in zip(products(k, k), near, strict=True)]
                parts.append(attended(weights, values))
        out = linear(torch.cat(parts), attention.out_proj)
        rows.append(out if kind in ("clearclip", "naclip") else feed_forward(layer, x[i] + out, activation))
    return torch.stack(rows)
