"""The vision transformer of EVA02-CLIP.

Fang et al., "EVA-02: A Visual Representation for Neon Genesis" (2023); Sun et al., "EVA-CLIP: Improved Training
Techniques for CLIP at Scale" (2023). A pre-norm transformer with a class token, learned positions, and beyond CLIP's:

- queries and keys of the patches are rotated by their place (rotary positions): of the d dimensions of a head, the
  first half turns with the row, the second with the column; pair i of a half turns by t 10000^(-4 i / d), with t the
  row or column in a grid of 16 x 16;
- keys have no bias, and the attention's output has a norm before its projection;
- the MLP is W_2 LN(silu(W_g x) * W_x x).

Parameters have the names of timm's model ``eva02_*_clip_*``, which open_clip saves.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPS = 1e-6
_GRID = 16  # positions of the rows and columns that rotations are counted in, whatever the image's own grid
_TEMPERATURE = 10_000.0
Rotation = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class EvaShape:
    """The sizes of an EVA02-CLIP's vision tower.

    Attributes:
        width: W of its tokens.
        depth: blocks.
        heads: of each attention.
        patch: pixels per patch side.
        image: pixels of the sides that it was trained at, on which its learned positions are.
    """

    width: int
    depth: int
    heads: int
    patch: int
    image: int


class EvaAttention(nn.Module):
    """Self-attention with rotary positions and a norm of its output.

    Args:
        width: W.
        heads: of which each has W / heads dimensions.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.norm, self.proj = nn.LayerNorm(width, eps=_EPS), nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """(B, 1 + N, W) -> (B, 1 + N, W); the class token is not rotated."""
        q, k, v = (self._split(part(x)) for part in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (torch.cat([each[:, :, :1], rotate(each[:, :, 1:], rotation)], dim=2) for each in (q, k))
        return self.proj(self.norm(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))

    def values(self, x: Tensor) -> Tensor:
        """What comes out where each token attends to itself alone: (B, N, W) -> (B, N, W)."""
        return self.proj(self.norm(self.v_proj(x)))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class SwiGLU(nn.Module):
    """W_2 LN(silu(W_g x) * W_x x).

    Args:
        width: W.
        hidden: of the products.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1_g, self.fc1_x = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.norm, self.fc2 = nn.LayerNorm(hidden, eps=_EPS), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, W) -> (B, N, W)."""
        return self.fc2(self.norm(F.silu(self.fc1_g(x)) * self.fc1_x(x)))


class EvaBlock(nn.Module):
    """One block.

    Args:
        width: W.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=_EPS), EvaAttention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=_EPS), SwiGLU(width, int(width * 4 * 2 / 3))

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """(B, 1 + N, W) -> (B, 1 + N, W)."""
        return self._feed_forward(x + self.attn(self.norm1(x), rotation))

    def values(self, x: Tensor) -> Tensor:
        """The block where each token attends to itself alone, as MaskCLIP reads it: (B, N, W) -> (B, N, W)."""
        return self._feed_forward(x + self.attn.values(self.norm1(x)))

    def _feed_forward(self, y: Tensor) -> Tensor:
        return y + self.mlp(self.norm2(y))


class EvaViT(nn.Module):
    """The vision tower with its projection to the joint space.

    Args:
        shape: of the tower.
        dims: D of the joint space.
    """

    def __init__(self, shape: EvaShape, dims: int):
        super().__init__()
        self.shape = shape
        side = shape.image // shape.patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side * side, shape.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, shape.width, shape.patch, shape.patch)})
        self.blocks = nn.ModuleList(EvaBlock(shape.width, shape.heads) for _ in range(shape.depth))
        self.norm, self.head = nn.LayerNorm(shape.width, eps=_EPS), nn.Linear(shape.width, dims)

    def forward(self, pixels: Tensor) -> Tensor:
        """Global features: normalized pixels (B, 3, H, W), sides multiples of the patch -> (B, D)."""
        x, rotation = self.before_last(pixels)
        return self.head(self.norm(self.blocks[-1](x, rotation)[:, 0]))

    def before_last(self, pixels: Tensor) -> tuple[Tensor, Rotation]:
        """Tokens (B, 1 + N, W) that enter the last block, the class token first, and the patches' rotation."""
        grid = pixels.shape[-2] // self.shape.patch, pixels.shape[-1] // self.shape.patch
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self._positions(grid)
        rotation = rotary(grid, self.shape.width // self.shape.heads, x)
        for block in self.blocks[:-1]:
            x = block(x, rotation)
        return x, rotation

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """(1, 1 + N, W) learned positions, interpolated bicubically with antialiasing as timm does."""
        side = self.shape.image // self.shape.patch
        if grid == (side, side):
            return self.pos_embed
        first, patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        square = patches.transpose(1, 2).unflatten(2, (side, side)).float()
        resized = F.interpolate(square, grid, mode="bicubic", antialias=True).to(patches.dtype)
        return torch.cat([first, resized.flatten(2).transpose(1, 2)], dim=1)


def rotary(grid: tuple[int, int], dims: int, like: Tensor) -> Rotation:
    """Sine and cosine of the patches' rotations.

    Args:
        grid: (h, w).
        dims: d of a head, a multiple of 4.
        like: a tensor of the device to use.

    Returns:
        Two (h w, d) float32; dimensions 2 i and 2 i + 1 turn together.
    """
    speeds = _TEMPERATURE ** -(torch.arange(dims // 4, device=like.device).float() / (dims // 4))
    rows, columns = (torch.arange(side, device=like.device).float() / side * _GRID for side in grid)
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)  # (N, 2)
    angles = (places[..., None] * speeds).flatten(1).repeat_interleave(2, dim=1)
    return angles.sin(), angles.cos()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the pairs of (B, heads, N, d) by ``rotary``: (a, b) -> (a cos - b sin, b cos + a sin)."""
    sine, cosine = rotation
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return (x * cosine + turned * sine).to(x.dtype)
