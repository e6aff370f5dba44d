"""SC-CLIP: patches of the last blocks calibrated by CLIP's own middle blocks.

Bai et al., "Self-Calibrated CLIP for Training-Free Open-Vocabulary Segmentation" (2024). x^l are the patches after
block l of L, c^l the class token there, and for ViT-B (L = 12) m = 9, p = 4:

1. Anomalies of x^(L-1), the patches whose local outlier factor (30 neighbors) is in its upper 5 %, become the mean of
   their neighbors in the 3 x 3 around them that are none; the same places of x^m likewise.
2. With S the cosines of x^m, and S_0 = S where S >= .4, else 0, each row divided by its sum:  x = S_0 x^(L-1).
3. The last block, without residual and MLP, for each head:
   last(x, c) = O (softmax_j(3 (S - mean S), where that is >= 0) + softmax(k k^T / sqrt(d))) v / 2 + .3 c.
4. With P_0 made of the cosines of x^p as S_0 of S, and r the sum of all tokens after blocks p to m + 1:
   z = P_0 (last(x, c^(L-1)) + last(r, c of r)).

The steps and constants are those of the paper's published settings for ViT-B/16; for towers of another depth the blocks
are at the same shares of it, which is ours. The local outlier factor is that of its definition (Breunig et al., SIGMOD
2000).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.models.teachers.attention.proxy_attention import proxy_attention

NEIGHBORS, ANOMALOUS = 30, 0.05  # of the local outlier factor; share of patches that are anomalies
SIMILAR = 0.4  # cosines below it do not mix patches
CLASS_TOKEN = 0.3  # weight of the class token in every patch
_MIDDLE, _SHALLOW, _DEPTH = 9, 4, 12  # blocks of ViT-B


def local_outlier_factor(points: Tensor, neighbors: int = NEIGHBORS) -> Tensor:
    """How much sparser the surroundings of each point are than those of its neighbors.

    With N(a) the k nearest others of a, d_k(b) the distance of b to its k-th nearest:

        reach(a, b) = max(d_k(b), |a - b|),    density(a) = 1 / mean over N(a) of reach(a, b)
        factor(a) = mean over N(a) of density(b) / density(a)

    Args:
        points: (B, N, C); each of the B sets by itself.
        neighbors: k; all others where there are fewer.

    Returns:
        (B, N), about 1 within a cluster, more for outliers; 1 for a point alone.

    Example:
        >>> import torch
        >>> points = torch.tensor([[[0.], [1.], [2.], [3.], [20.]]])
        >>> local_outlier_factor(points, 2).argmax().item()
        4
    """
    count = min(neighbors, points.shape[1] - 1)
    if count < 1:
        return points.new_ones(points.shape[:2])
    centered = points - points.mean(1, keepdim=True)  # cdist multiplies matrices, which a common offset makes inexact
    distances = torch.cdist(centered, centered)
    itself = torch.eye(points.shape[1], dtype=torch.bool, device=points.device)
    nearest, index = distances.masked_fill(itself, torch.inf).topk(count, largest=False)
    reach = torch.maximum(_look_up(nearest[..., -1], index), nearest)
    density = 1 / (reach.mean(2) + 1e-10)  # equal points have no distance
    return _look_up(density, index).mean(2) / density


def anomalies(points: Tensor, share: float = ANOMALOUS) -> Tensor:
    """(B, N) which points of (B, N, C) have a local outlier factor in the upper ``share`` of their set."""
    factor = local_outlier_factor(points.float())
    return factor > factor.quantile(1 - share, dim=1, keepdim=True)


def interpolate_patches(patches: Tensor, wrong: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patches that are wrong become the mean of the right ones around them.

    Args:
        patches: (B, N, W).
        wrong: (B, N) bool.
        grid: (h, w) with h w = N.

    Returns:
        (B, N, W); a wrong patch with no right one around stays.
    """
    right = (~wrong).to(patches)[:, None].unflatten(2, grid)
    maps = patches.transpose(1, 2).unflatten(2, grid)
    total, count = (F.avg_pool2d(each, 3, 1, 1, divisor_override=1) for each in (maps * right, right))
    replaced = (total / count.clamp(min=1)).flatten(2).transpose(1, 2)
    return torch.where((wrong & (count.flatten(1) > 0))[..., None], replaced, patches)


def mixing(patches: Tensor, least: float = SIMILAR) -> Tensor:
    """S_0 (B, N, N) of patches (B, N, W): cosines of at least ``least``, each row divided by its sum."""
    unit = F.normalize(patches, dim=2)
    cosines = unit @ unit.transpose(1, 2)
    kept = torch.where(cosines >= least, cosines, 0)
    return kept / kept.sum(2, keepdim=True)  # a patch's cosine with itself is 1, so that no sum is 0


def apply_self_calibration(layer: Any, tokens: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """The patches after the last block, by the steps above.

    Args:
        layer: the last ``CLIPEncoderLayer``.
        tokens: those that enter each block, from ``dense_attention.entering_tokens``: L times (B, 1 + N, W).
        grid: (h, w) with h w = N.

    Returns:
        (B, N, W).
    """
    depth = len(tokens)
    shallow, middle = (min(max(1, round(block * depth / _DEPTH)), depth - 1) for block in (_SHALLOW, _MIDDLE))
    last = tokens[-1]
    wrong = anomalies(last[:, 1:])
    patches, mid = (interpolate_patches(each[:, 1:], wrong, grid) for each in (last, tokens[middle]))
    fused = torch.stack(list(tokens[shallow : middle + 2])).sum(0)
    deep = _last(layer, mixing(mid) @ patches, last[:, :1], mid)
    detailed = _last(layer, fused[:, 1:], fused[:, :1], mid)
    return mixing(tokens[shallow][:, 1:]) @ (deep + detailed)


def _last(layer: Any, x: Tensor, class_token: Tensor, mid: Tensor) -> Tensor:
    """last(x, c): (B, N, W), with ``mid`` (B, N, W) the patches whose cosines are S."""
    attention = layer.self_attn
    h = layer.layer_norm1(x)
    both = attention.k_proj(h), attention.v_proj(h)
    keys, values = (each.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for each in both)
    similar = proxy_attention(F.normalize(mid, dim=2).transpose(1, 2)[..., None], beta=1.0)[:, None]
    mixed = (similar.to(values) @ values + F.scaled_dot_product_attention(keys, keys, values)) / 2
    return attention.out_proj(mixed.transpose(1, 2).flatten(2)) + CLASS_TOKEN * class_token


def _look_up(values: Tensor, index: Tensor) -> Tensor:
    """(B, N) values at (B, N, k) indices of points."""
    return values[:, None].expand(-1, values.shape[1], -1).gather(2, index)
