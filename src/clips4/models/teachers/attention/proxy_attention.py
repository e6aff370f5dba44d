"""ProxyCLIP: CLIP's last attention replaced by the similarities of a self-supervised backbone's patches.

Lan et al., "ProxyCLIP: Proxy Attention Improves CLIP for Open-Vocabulary Segmentation" (ECCV 2024). With f_i the
backbone's unit feature of patch i, v the values W_v LN_1 x of CLIP's patches in the last block, and O its output
projection,

    S_ij = f_i . f_j,        E = gamma (S - beta mean(S)),        A = softmax_j(E_ij, where E_ij >= 0),        z = O A v

for all heads alike, without residual and MLP; mean(S) is over all pairs of the image. The class token takes no part.
Where the backbone's patches are others than CLIP's, v is brought to them bilinearly, as in the paper; z is brought back
to CLIP's, which the paper leaves fine.
"""

from typing import Any

import torch
from torch import Tensor

from clips4.utils.tensors import resize_map

BETA, GAMMA = 1.2, 3.0  # of the paper, for all sets and backbones


def proxy_attention(features: Tensor, beta: float = BETA, gamma: float = GAMMA) -> Tensor:
    """A: (B, C, h, w) unit features -> (B, h w, h w), rows with sum 1.

    A patch attends to itself in any case: in an image whose patches all look alike, every E is negative.
    """
    rows = features.flatten(2)
    similarity = torch.einsum("bci,bcj->bij", rows, rows)
    shifted = gamma * (similarity - beta * similarity.mean((1, 2), keepdim=True))
    itself = torch.eye(shifted.shape[-1], dtype=torch.bool, device=shifted.device)
    return shifted.masked_fill((shifted < 0) & ~itself, -torch.inf).softmax(2)


def apply_proxy_attention(layer: Any, x: Tensor, features: Tensor, grid: tuple[int, int]) -> Tensor:
    """CLIP's patches after the last block, by ProxyCLIP's equation.

    Args:
        layer: the last ``CLIPEncoderLayer``.
        x: (B, 1 + N, W) tokens that enter it, the class token first.
        features: (B, C, h', w') unit along C, of the same images.
        grid: (h, w) with h w = N.

    Returns:
        (B, N, W).
    """
    values = layer.self_attn.v_proj(layer.layer_norm1(x[:, 1:]))
    own = features.shape[-2], features.shape[-1]
    mixed = proxy_attention(features).to(values) @ _regrid(values, grid, own)
    return layer.self_attn.out_proj(_regrid(mixed, own, grid))


def _regrid(tokens: Tensor, grid: tuple[int, int], other: tuple[int, int]) -> Tensor:
    """Tokens (B, h w, W) of a grid (h, w) at the places of another."""
    if grid == other:
        return tokens
    return resize_map(tokens.transpose(1, 2).unflatten(2, grid), other).flatten(2).transpose(1, 2)
