"""EVA02-CLIP literally: timm's image tower with rotations as complex numbers, and open_clip's text tower.

The tower was checked against timm 1.0.31 (``eva02_base_patch16_clip_224`` of small sizes) when it was written.
"""

import cmath
import math
from typing import Any

import torch
from torch import Tensor, nn

from tests.reference.open_clip import OpenClip

WIDTH, DEPTH, HEADS, PATCH, SIZE, DIMS = 32, 3, 4, 8, 32, 24
HIDDEN = int(WIDTH * 4 * 2 / 3)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.v_proj, self.norm, self.proj = (
            nn.Linear(WIDTH, WIDTH),
            nn.LayerNorm(WIDTH, eps=1e-6),
            nn.Linear(WIDTH, WIDTH),
        )

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(T, W) of one image, the class token first."""
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        d, out = WIDTH // HEADS, torch.zeros_like(x)
        for head in range(HEADS):
            part = slice(head * d, (head + 1) * d)
            queries = torch.stack([turned(q[i, part], i - 1, grid) for i in range(len(x))])
            keys = torch.stack([turned(k[i, part], i - 1, grid) for i in range(len(x))])
            weights = (queries @ keys.T / math.sqrt(d)).softmax(1)
            out[:, part] = weights @ v[:, part]
        return self.proj(self.norm(out))


def turned(vector: Tensor, place: int, grid: tuple[int, int]) -> Tensor:
    """The d dimensions of a head at a patch, pairs as complex numbers; the class token (-1) stays."""
    if place < 0:
        return vector
    row, column = place // grid[1] / grid[0] * 16, place % grid[1] / grid[1] * 16
    d = len(vector)
    numbers = []
    for half, t in enumerate((row, column)):
        for i in range(d // 4):
            real, imaginary = vector[half * d // 2 + 2 * i], vector[half * d // 2 + 2 * i + 1]
            turn = cmath.exp(1j * t * 10000 ** (-4 * i / d))
            numbers += [real * turn.real - imaginary * turn.imag, real * turn.imag + imaginary * turn.real]
    return torch.stack(numbers)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1_g, self.fc1_x = nn.Linear(WIDTH, HIDDEN), nn.Linear(WIDTH, HIDDEN)
        self.norm, self.fc2 = nn.LayerNorm(HIDDEN, eps=1e-6), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc1_g(x)
        return self.fc2(self.norm(gate * torch.sigmoid(gate) * self.fc1_x(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn, self.mlp = Attention(), Mlp()

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        x = x + self.attn(self.norm1(x), grid)
        return x + self.mlp(self.norm2(x))

    def values(self, x: Tensor) -> Tensor:
        x = x + self.attn.proj(self.attn.norm(self.attn.v_proj(self.norm1(x))))
        return x + self.mlp(self.norm2(x))


class Trunk(nn.Module):
    """The image tower, under timm's names."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (SIZE // PATCH) ** 2, WIDTH))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, PATCH, PATCH)})
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm, self.head = nn.LayerNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, DIMS)

    def tokens(self, pixels: Tensor, last: str) -> Tensor:
        """(3, H, W) normalized -> (1 + N, W) after the blocks; the last is "vanilla" or read by its "values"."""
        grid = pixels.shape[1] // PATCH, pixels.shape[2] // PATCH
        patches = self.patch_embed["proj"](pixels[None])[0].flatten(1).T
        old = self.pos_embed[0, 1:].T.reshape(1, WIDTH, SIZE // PATCH, SIZE // PATCH)
        positions = nn.functional.interpolate(old, grid, mode="bicubic", antialias=True)[0].flatten(1).T
        x = torch.cat([self.cls_token[0] + self.pos_embed[0, :1], patches + positions])
        final: Any = self.blocks[-1]
        for block in self.blocks[:-1]:
            x = block(x, grid)
        return final(x, grid) if last == "vanilla" else final.values(x)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalized pixels (B, 3, H, W) -> (B, D)."""
        return torch.stack([self.head(self.norm(self.tokens(each, "vanilla")[0])) for each in pixels])


class EvaClip(nn.Module):
    """Both towers, every parameter at random, under open_clip's names."""

    def __init__(self, seed: int = 0):
        super().__init__()
        self.plain = OpenClip(quick_gelu=False, seed=seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.trunk = Trunk()
            for parameter in self.trunk.parameters():
                scale = 1.5 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.5
                parameter.data += scale * torch.randn_like(parameter)

    def encode_text(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, D)."""
        return self.plain.encode_text(ids)

    def saved(self) -> dict[str, Tensor]:
        """The tensors as open_clip saves them."""
        text = {key: value for key, value in self.plain.state_dict().items() if not key.startswith("visual.")}
        scale = {"logit_scale": text.pop("logit_scale")}
        trunk = {f"visual.trunk.{key}": value for key, value in self.trunk.state_dict().items()}
        return trunk | {f"text.{key}": value for key, value in text.items()} | scale
