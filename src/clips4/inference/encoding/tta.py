"""How an image goes through a network: whole or in windows, at one size or several, mirrored or not.

The embeddings of all passes are averaged where they overlap and normalized again. That averages inner products with
class vectors too, as sliding windows and test-time augmentation average logits.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from clips4.errors import UserError
from clips4.models.sliding_window import MIN_SIDE, InferenceSize, at_inference_size, encode_in_windows, hann, to_patches
from clips4.utils.images import RGB
from clips4.utils.tensors import resize_map

Edges = Literal["pamr", "regions", "lposs"]


class PixelEncoder(Protocol):
    """(B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D: a student, or a teacher's ``encode_pixels``."""

    def __call__(self, images: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class InferenceOptions:
    """How images are encoded, other than once and whole.

    Attributes:
        scales: sizes that are averaged, as factors of the default size (the image's own, reduced to the run's
            ``InferenceSize``): with a side of 320, (1, 2) encodes a photograph at 320 and at 640 pixels. A scale
            above 1 resolves small objects; the embedding map is as fine as at the largest scale.
        flip: whether the mirrored image is encoded too, and averaged.
        window: side in pixels, after resizing, of the windows of a larger image; None encodes it whole. Windows bound
            memory, and show objects to the network at the size they had in training.
        overlap: share of a window that the next one covers again, in [0, 1); windows are blended smoothly.
        refine: "pamr" averages the scores of pixels over similar pixels nearby (``refine.pamr``), "regions" over the
            superpixels of the image (``refine.superpixels``), "lposs" spreads them over the positions of the map that
            look alike (``refine.lposs``); None leaves them as they are.

    Raises:
        UserError: a value out of range.

    Example:
        >>> fine = InferenceOptions(scales=(1, 2), flip=True)
        >>> segmenter.segment("photo.jpg", options=fine).names
        ('cat', 'cup', 'grass')
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: int | None = None
    overlap: float = 0.5
    refine: Edges | None = None

    def __post_init__(self) -> None:
        if not self.scales or not all(0.05 <= scale <= 32 for scale in self.scales):
            raise UserError(f"scales {self.scales}: give one or more factors from 0.05 to 32, e.g. 1,2")
        if self.window is not None and self.window < MIN_SIDE:
            raise UserError(f"a window of {self.window} pixels is too small; give {MIN_SIDE} or more")
        if not 0 <= self.overlap < 1:
            raise UserError(f"overlap {self.overlap}: give a share of a window from 0 to below 1")
        if self.refine not in (None, *get_args(Edges)):
            raise UserError(f"refine {self.refine!r}: choose one of {', '.join(get_args(Edges))}")

    @property
    def plain(self) -> bool:
        """Whether an image is encoded once and whole."""
        return self.scales == (1.0,) and not self.flip and self.window is None

    def check(self, long_side: int) -> None:
        """Check that a window has an effect on images that are reduced to ``long_side``.

        Args:
            long_side: in pixels, at scale 1.

        Raises:
            UserError: it has none.

        Example:
            >>> InferenceOptions(window=224).check(long_side=320)
        """
        largest = round(long_side * max(self.scales))
        if self.window is not None and self.window >= largest:
            raise UserError(
                f"a window of {self.window} pixels changes nothing: images are encoded at {largest}; give scales above "
                f"{math.ceil(10 * self.window / long_side) / 10} for larger ones, or a smaller window"
            )


@torch.no_grad()
def embed_with_options(
    encode: Callable[[Tensor], Tensor], image: RGB, size: int | InferenceSize, stride: int, options: InferenceOptions
) -> Tensor:
    """The pixel embeddings of one image.

    Args:
        encode: (1, 3, H, W) in [0, 1] -> (1, D, h, w), unit along D.
        image: (H, W, 3) uint8.
        size: larger images are reduced to it, or to this long side, at scale 1.
        stride: pixels per position of the map.
        options: see there; ``refine`` has no effect here.

    Returns:
        (D, h, w) unit along D, at the resolution of the largest scale.
    """
    if options.plain:
        return encode(at_inference_size(image, size))[0]
    maps = []
    for scale in sorted(options.scales, reverse=True):
        resized = to_patches(at_inference_size(image, size, scale), stride)
        maps.append(_embed(encode, resized, stride, options))
        if options.flip:
            maps.append(_embed(encode, resized.flip(-1), stride, options).flip(-1))
    total = maps.pop(0)
    for each in maps:
        total = total + resize_map(each, (total.shape[-2], total.shape[-1]))
    # in place: the map of a large photograph takes half a gibibyte
    return total.div_(torch.linalg.vector_norm(total, dim=1, keepdim=True).clamp_min(1e-12))[0]


def _embed(encode: Callable[[Tensor], Tensor], resized: Tensor, stride: int, options: InferenceOptions) -> Tensor:
    return encode_in_windows(resized, encode, stride, options.window or 0, options.overlap, hann)
