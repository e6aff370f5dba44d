"""The student f: images to unit pixel embeddings z_p (CLIP-S4 section 3.1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clips4.config import StudentConfig
from clips4.models.backbones.base import Backbone
from clips4.models.backbones.dino_vit import empty_vit
from clips4.models.backbones.registry import CONVOLUTIONAL, DINO
from clips4.models.pretrained import load_backbone
from clips4.utils.tensors import resize_map

EMBEDDING = "z"
LEVELS = ("c2", "c3", "c4", "c5")  # of a backbone, fine to coarse; strides 4, 8, 16, 32 where it is not dilated
_GROUPS = 8  # of GroupNorm; it makes an image's embedding independent of its batch


def _conv_norm(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.GroupNorm(_GROUPS, outputs)
    )


class MultiScaleHead(nn.Module):
    """Sums the backbone's levels at one stride, coarse to fine, and projects to D (a light feature pyramid).

    Args:
        channels: widths of the levels, fine to coarse.
        width: channels of the pyramid; a multiple of 8.
        embed_dim: D.
    """

    def __init__(self, channels: tuple[int, ...], width: int, embed_dim: int):
        super().__init__()
        self.laterals = nn.ModuleList(_conv_norm(inputs, width, 1) for inputs in channels)
        self.mix = nn.Sequential(_conv_norm(width, width, 3), nn.ReLU())
        self.project = nn.Conv2d(width, embed_dim, 1)

    def forward(self, levels: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Levels (B, channels[i], h_i, w_i) -> (B, D, *size), not normalized."""
        merged = torch.stack(
            [
                F.interpolate(lateral(level), size, mode="bilinear", align_corners=False)
                for lateral, level in zip(self.laterals, levels, strict=True)
            ]
        ).sum(0)
        return self.project(self.mix(F.relu(merged)))


class Embedder(nn.Module):
    """The pixel embedding network: a backbone and a multi-scale head.

    Args:
        backbone: see ``models.backbones``.
        embed_dim: D, the teacher's joint dimension.
        stride: pixels of the image per pixel embedding.
        width: channels of the head.
        frozen: no gradients for the backbone, and always eval mode.
        head: instead of a ``MultiScaleHead``, for a subclass with an ``embed`` of its own.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        embed_dim: int,
        stride: int = 8,
        width: int = 256,
        frozen: bool = False,
        head: nn.Module | None = None,
    ):
        super().__init__()
        self.backbone, self.frozen = backbone, frozen
        if frozen:
            backbone.requires_grad_(False).eval()
        self.stride, self.embed_dim = stride, embed_dim
        # skip levels finer than the output, unless all are coarser
        coarse = [index for index, s in enumerate(backbone.strides) if s >= stride]
        self._levels = coarse or list(range(len(backbone.strides)))
        channels = tuple(backbone.channels[index] for index in self._levels)
        self.head = MultiScaleHead(channels, width, embed_dim) if head is None else head
        self.register_buffer("_mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> z (B, D, ceil(H / stride), ceil(W / stride)), unit vectors along D, float32.

        Raises:
            ValueError: not (B, 3, H, W).
        """
        return self.embed(self.levels(images), self._size(images))

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) in [0, 1] -> the backbone's levels (B, channels, h, w), fine to coarse; all of them.

        Raises:
            ValueError: not (B, 3, H, W).
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected images (B, 3, H, W), got {tuple(images.shape)}")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return tuple(self.backbone((images - self._mean) / self._std))

    def embed(self, levels: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Levels of the backbone -> z (B, D, *size), unit vectors along D, float32."""
        return F.normalize(self.head(tuple(levels[index] for index in self._levels), size).float(), dim=1)

    def hypercolumn(self, images: Tensor, parts: Sequence[str] = (EMBEDDING, "c4")) -> Tensor:
        """z and levels of the backbone side by side, see ``hypercolumn``.

        z is smooth and the same across outlines within an object; the backbone's levels keep its appearance.

        Args:
            images: (B, 3, H, W) in [0, 1].
            parts: some of ``EMBEDDING`` and ``LEVELS``.

        Returns:
            (B, sum of channels, h, w) unit along the channels, at the size of z.

        Raises:
            ValueError: not (B, 3, H, W).
        """
        levels, size = self.levels(images), self._size(images)
        named = dict(zip(LEVELS, levels, strict=True))
        return hypercolumn([self.embed(levels, size) if p == EMBEDDING else named[p] for p in parts], size)

    def _size(self, images: Tensor) -> tuple[int, int]:
        # not -(-side // stride): ONNX divides negative numbers otherwise
        height, width = ((side + self.stride - 1) // self.stride for side in images.shape[-2:])
        return height, width

    def train(self, mode: bool = True) -> "Embedder":
        """Train mode, in which the backbone's batch norms keep their ImageNet statistics.

        Batches of crops are too small and too similar to estimate these again.
        """
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        for module in self.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def hypercolumn(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Feature maps side by side, with equal weight in a cosine (after Hariharan et al., CVPR 2015).

    Args:
        maps: (B, channels_i, h_i, w_i) each, brought to ``size`` bilinearly and to unit length along the channels.
        size: (h, w).

    Returns:
        (B, sum of channels_i, h, w), unit along the channels.
    """
    parts = [F.normalize(resize_map(each.float(), size), dim=1) for each in maps]
    return torch.cat(parts, 1) / len(parts) ** 0.5


def build_student(config: StudentConfig, embed_dim: int) -> Embedder:
    """The student of a configuration, with its backbone's weights loaded."""
    backbone = load_backbone(config.backbone, config.weights, config.output_stride)
    return Embedder(backbone, embed_dim, config.stride, config.width, config.frozen)


def empty_student(config: StudentConfig, embed_dim: int, architecture: Mapping[str, Any] | None = None) -> Embedder:
    """The same network with weights to be loaded from a checkpoint; reads no file.

    Args:
        config: of the run.
        embed_dim: D.
        architecture: ``backbone.architecture`` of the student that was saved.

    Raises:
        KeyError: a ViT without its architecture.
    """
    if config.backbone != DINO:
        backbone = CONVOLUTIONAL[config.backbone](config.output_stride)
    elif architecture is None:
        raise KeyError("backbone")
    else:
        backbone = empty_vit(architecture)
    return Embedder(backbone, embed_dim, config.stride, config.width, config.frozen)
