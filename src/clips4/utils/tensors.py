"""Images and maps as tensors."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.utils.images import RGB


def to_tensor(image: RGB) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255


def resize_map(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resizing of (B, C, h, w) to (B, C, *size), sampled at pixel centers."""
    return F.interpolate(values, size, mode="bilinear", align_corners=False)
