"""Dense attention for a CLIP vision transformer: every block as trained except the last, whose attention is replaced.

With x the tokens before the last block (a class token, then the patches), h = LN_1 x its norm, q, k, v = W_q h, W_k h,
W_v h, A(a, b) = softmax(a b^T / sqrt(d)) per head, and O the output projection, the patches become

    vanilla    y = x + O A(q, k) v                         z = y + MLP(LN_2 y)    as trained
    maskclip   y = x + O v                                 z = y + MLP(LN_2 y)    Zhou et al., ECCV 2022
    sclip      y = x + O (A(q, q) + A(k, k)) v             z = y + MLP(LN_2 y)    Wang et al., ECCV 2024
    clearclip  z = O A(q, q) v                                                    Lan et al., ECCV 2024
    naclip     z = O softmax(k k^T / sqrt(d) + omega) v                           Hajimiri et al., WACV 2025

with omega_ij = exp(-|p_i - p_j|^2 / 2 sigma^2) for the places p of two patches, 0 for the class token. The caller
applies the tower's final norm and the projection. No hook, no state: the functions take the tower's own layers, and
``torch.compile`` takes the functions.
"""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

DenseAttention = Literal["maskclip", "sclip", "clearclip", "naclip", "vanilla"]
DENSE_ATTENTIONS: tuple[DenseAttention, ...] = get_args(DenseAttention)
NEIGHBORHOOD = 5.0  # sigma of NACLIP's Gaussian, in patches


def entering_tokens(vision: Any, pixels: Tensor) -> list[Tensor]:
    """Tokens (B, 1 + N, W) that enter each block, the class token first.

    Args:
        vision: a ``CLIPVisionModel`` (in older transformers, ``CLIPVisionTransformer``).
        pixels: (B, 3, H, W) normalized, sides multiples of the patch; positions are interpolated bicubically.
    """
    tokens = [vision.pre_layrnorm(vision.embeddings(pixels, interpolate_pos_encoding=True))]
    for layer in vision.encoder.layers[:-1]:
        tokens.append(block(layer, tokens[-1]))
    return tokens


def tokens_before_last(vision: Any, pixels: Tensor) -> Tensor:
    """Tokens (B, 1 + N, W) that enter the last block, see ``entering_tokens``."""
    return entering_tokens(vision, pixels)[-1]


def block(layer: Any, x: Tensor) -> Tensor:
    """A ``CLIPEncoderLayer`` as it was trained: (B, T, W) -> (B, T, W)."""
    q, k, v = (_heads(layer, part) for part in project(layer, x))
    return _feed_forward(layer, x + layer.self_attn.out_proj(_attend(q, k, v)))


def apply_last_block(layer: Any, x: Tensor, kind: DenseAttention, grid: tuple[int, int]) -> Tensor:
    """The patches after the last block, by the equation of a dense attention.

    Args:
        layer: the last ``CLIPEncoderLayer``.
        x: (B, 1 + N, W) from ``tokens_before_last``.
        kind: the dense attention.
        grid: (h, w) with h w = N; naclip needs to know which patches are neighbors.

    Returns:
        (B, N, W).
    """
    attention = layer.self_attn
    if kind == "vanilla":
        return block(layer, x)[:, 1:]
    if kind == "maskclip":
        patches = x[:, 1:]
        return _feed_forward(layer, patches + attention.out_proj(attention.v_proj(layer.layer_norm1(patches))))
    if kind == "sclip":
        q, k, v = (_heads(layer, part) for part in project(layer, x))
        mixed = _attend(q[:, :, 1:], q, v) + _attend(k[:, :, 1:], k, v)
        return _feed_forward(layer, x[:, 1:] + attention.out_proj(mixed))
    h = layer.layer_norm1(x)
    v = _heads(layer, attention.v_proj(h))
    if kind == "clearclip":
        q = _heads(layer, attention.q_proj(h))
        return attention.out_proj(_attend(q[:, :, 1:], q, v))
    if kind == "naclip":
        k = _heads(layer, attention.k_proj(h))
        return attention.out_proj(_attend(k[:, :, 1:], k, v, neighborhood(grid, x)))
    raise ValueError(f"unknown dense attention {kind!r}; choose one of {', '.join(DENSE_ATTENTIONS)}")


def last_keys(layer: Any, x: Tensor) -> Tensor:
    """Keys of the patches in the last block, all heads side by side: (B, 1 + N, W) -> (B, N, W)."""
    return layer.self_attn.k_proj(layer.layer_norm1(x[:, 1:]))


def neighborhood(grid: tuple[int, int], like: Tensor, sigma: float = NEIGHBORHOOD) -> Tensor:
    """omega of NACLIP: (N, 1 + N), a Gaussian around each patch, 0 for the class token.

    A product of two small Gaussians, cheap enough to compute for every image.
    """
    exact = torch.promote_types(like.dtype, torch.float32)
    places = [torch.arange(n, device=like.device, dtype=exact) for n in grid]
    rows, columns = ((-((p[:, None] - p) ** 2) / (2 * sigma**2)).exp().to(like.dtype) for p in places)
    count = grid[0] * grid[1]
    patches = torch.einsum("ij,kl->ikjl", rows, columns).reshape(count, count)
    return F.pad(patches, (1, 0))


def project(layer: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of LN_1 x: three times (B, T, W)."""
    h = layer.layer_norm1(x)
    return layer.self_attn.q_proj(h), layer.self_attn.k_proj(h), layer.self_attn.v_proj(h)


def _heads(layer: Any, x: Tensor) -> Tensor:
    """(B, T, W) -> (B, heads, T, W / heads)."""
    return x.unflatten(-1, (layer.self_attn.num_heads, -1)).transpose(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(query key^T / sqrt(d) + bias) value, heads joined: (B, heads, T, d) -> (B, T, W)."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)


def _feed_forward(layer: Any, y: Tensor) -> Tensor:
    return y + layer.mlp(layer.layer_norm2(y))
