"""How images enter a network: at what size, whole or in overlapping windows that are averaged where they overlap."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clips4.config import DataConfig
from clips4.utils.images import RGB, reduce_to
from clips4.utils.tensors import resize_map, to_tensor

MIN_SIDE = 32  # pixels; networks need a few positions, so a smaller image is enlarged


WIDEST = 1.5  # times the long side: at most this for a wide image, so that a panorama stays small


class InferenceSize(NamedTuple):
    """The size to which images are reduced before a network encodes them.

    Attributes:
        long_side: in pixels.
        short_side: wide images are larger than ``long_side``, so that their short side has as many pixels; 0: no. What
            a photograph shows is as large in a wide one as in others of the same height.

    Example:
        >>> size = InferenceSize(416, 312)
        >>> size.side_of(480, 640), size.side_of(480, 854), size.side_of(100, 1000)
        (416, 555, 624)
    """

    long_side: int
    short_side: int = 0

    def side_of(self, height: int, width: int) -> int:
        """The long side, in pixels, to which an image is reduced; smaller images keep their size."""
        wide = round(self.short_side * max(height, width) / min(height, width))
        return max(self.long_side, min(wide, self.largest))

    @property
    def largest(self) -> int:
        """The long side of the widest images."""
        return round(self.long_side * WIDEST) if self.short_side else self.long_side


def inference_size(data: DataConfig) -> InferenceSize:
    """The size at which a run's student encodes images."""
    return InferenceSize(data.inference_side, data.inference_short_side)


def at_inference_size(image: RGB, size: int | InferenceSize, scale: float = 1) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, h, w) in [0, 1]: reduced to ``size`` (or this long side), then that times ``scale``.

    An image whose short side is below ``MIN_SIDE`` is enlarged.
    """
    height, width = image.shape[:2]
    long_side = size if isinstance(size, int) else size.side_of(height, width)
    side = round(min(max(height, width), long_side) * scale)
    resized = to_tensor(_at_side(image, side))[None]
    short = min(resized.shape[-2:])
    if short < MIN_SIDE:
        larger = [max(MIN_SIDE, round(length * MIN_SIDE / short)) for length in resized.shape[-2:]]
        limit = max(side, long_side)
        resized = resize_map(resized, (min(larger[0], limit), min(larger[1], limit)))
    return resized


def _at_side(image: RGB, side: int) -> RGB:
    height, width = image.shape[:2]
    if side <= max(height, width):
        return reduce_to(image, side)
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def to_patches(images: Tensor, patch: int) -> Tensor:
    """Resize (B, 3, H, W) so that each side is the nearest multiple of the patch (bilinear, with a filter)."""
    size = [max(1, round(side / patch)) * patch for side in images.shape[-2:]]
    if list(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side: every ``stride``, the last moved back to end with the side."""
    if size <= window:
        return [0]
    return [*range(0, size - window, stride), size - window]


def encode_in_windows(
    images: Tensor,
    encode: Callable[[Tensor], Tensor],
    patch: int,
    window: int,
    overlap: float,
    weigh: Callable[[int, int], Tensor] | None = None,
) -> Tensor:
    """Encode images whole, or in overlapping windows where a side is longer than ``window``.

    The outputs of ``encode`` are averaged: for unit vectors this averages inner products with class vectors too, like
    averaging logits over sliding windows.

    Args:
        images: (B, 3, H, W), sides multiples of the patch.
        encode: (B, 3, H', W') -> (B, C, H' / patch, W' / patch).
        patch: side of a patch in pixels.
        window: side of a window in pixels, rounded to whole patches; 0 encodes every image whole.
        overlap: share of a window that the next one also covers, in [0, 1).
        weigh: positive weights (rows, columns) of the positions of a window of that size, see ``hann``; equal
            without.

    Returns:
        (B, C, H / patch, W / patch).
    """
    height, width = (side // patch for side in images.shape[-2:])
    side = max(1, round(window / patch)) if window else max(height, width)
    if side >= max(height, width):
        return encode(images)
    stride = max(1, round(side * (1 - overlap)))
    total: Tensor | None = None
    for top in window_starts(height, side, stride):
        for left in window_starts(width, side, stride):
            rows, columns = slice(top, min(top + side, height)), slice(left, min(left + side, width))
            pixels = images[..., rows.start * patch : rows.stop * patch, columns.start * patch : columns.stop * patch]
            part = encode(pixels)
            if total is None:
                total = part.new_zeros(part.shape[0], part.shape[1], height, width)
                count = part.new_zeros(height, width)
            weights = part.new_ones(part.shape[-2:]) if weigh is None else weigh(*part.shape[-2:]).to(part)
            total[..., rows, columns] += part * weights
            count[rows, columns] += weights
    assert total is not None
    return total.div_(count)


def hann(rows: int, columns: int) -> Tensor:
    """(rows, columns) weights that fall smoothly to the borders of a window, so that no seam is visible.

    The product of two Hann windows, sampled at the centers of positions, so that no weight is zero.
    """
    across = [torch.sin(torch.pi * (torch.arange(n) + 0.5) / n).square() for n in (rows, columns)]
    return across[0][:, None] * across[1]
