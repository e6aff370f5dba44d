"""What every backbone has; see the package's text."""

from typing import Any

from torch import Tensor, nn

LEVEL_STRIDES = (4, 8, 16, 32)
OUTPUT_STRIDES = (8, 16, 32)


class Backbone(nn.Module):
    """Images to feature maps at four levels; the attributes are explained in the package's text."""

    channels: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def architecture(self) -> dict[str, Any] | None:
        """What is needed besides the configuration to build the network again; plain JSON values."""
        return None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        raise NotImplementedError


def dilated_strides(output_stride: int) -> tuple[int, int, int, int]:
    """Strides of the four levels when no level may be coarser than ``output_stride`` (8, 16 or 32)."""
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"output_stride is one of {OUTPUT_STRIDES}, got {output_stride}")
    a, b, c, d = (min(stride, output_stride) for stride in LEVEL_STRIDES)
    return a, b, c, d
