"""How a network is shown a picture: whole or in windows, at one size or several, as it is and mirrored.

The embeddings of the parts are averaged where they lie on each other and brought back to unit length. Inner products
with class vectors are averaged by that as well, as sliding windows and test-time augmentation do with logits.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from clips4.errors import UserError
from clips4.models.sliding_window import MIN_SIDE, at_inference_size, hann, read_in_windows, to_patches
from clips4.utils.images import RGB
from clips4.utils.tensors import resize_map

Edges = Literal["pamr", "regions"]


class PixelEncoder(Protocol):
    """(B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D: a student, or a teacher's ``encode_pixels``."""

    def __call__(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class InferenceOptions:
    """How pictures are read, beyond once and whole.

    Attributes:
        scales: sizes read and averaged, as factors of the size at which a picture is read else (its own, reduced to
            the run's ``data.inference_side``). (1, 2) sees a photograph at 320 and at 640 pixels. Finer than 1 shows
            small things; the answer is as fine as the largest.
        flip: whether the mirrored picture is read, too, and averaged.
        window: side in pixels of the windows in which a picture is read where it is larger, as read; None reads it
            whole. It bounds memory, and shows the network things at the size that they had in training.
        overlap: share of a window that the next covers again, in [0, 1); windows are blended smoothly.
        refine: "pamr" averages the scores of pixels over like pixels nearby (``teachers.pamr``), "regions" over the
            superpixels of the picture (``refinement``); None leaves them as they are.

    Raises:
        UserError: a value out of range.
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
            raise UserError(f"refine {self.refine!r}: there is {', '.join(get_args(Edges))}")

    @property
    def plain(self) -> bool:
        """Whether a picture is read once and whole."""
        return self.scales == (1.0,) and not self.flip and self.window is None

    def check(self, long_side: int) -> None:
        """See that a window does something for pictures that are reduced to ``long_side``.

        Raises:
            UserError: it never would.
        """
        largest = round(long_side * max(self.scales))
        if self.window is not None and self.window >= largest:
            raise UserError(
                f"a window of {self.window} pixels changes nothing: pictures are read at {largest}; give scales above "
                f"{math.ceil(10 * self.window / long_side) / 10} to read them larger, or a smaller window"
            )


@torch.no_grad()
def read_pixels(
    encode: Callable[[Tensor], Tensor], image: RGB, long_side: int, stride: int, options: InferenceOptions
) -> Tensor:
    """The pixel embeddings of one picture.

    Args:
        encode: (1, 3, H, W) in [0, 1] -> (1, D, h, w), unit along D.
        image: (H, W, 3) uint8.
        long_side: larger pictures are reduced to it, at scale 1.
        stride: pixels per position of the map.
        options: see there; ``refine`` is not looked at.

    Returns:
        (D, h, w) unit along D, as fine as the largest scale gives it.
    """
    if options.plain:
        return encode(at_inference_size(image, long_side))[0]
    maps = []
    for scale in sorted(options.scales, reverse=True):
        shown = to_patches(at_inference_size(image, long_side, scale), stride)
        maps.append(_read(encode, shown, stride, options))
        if options.flip:
            maps.append(_read(encode, shown.flip(-1), stride, options).flip(-1))
    total = maps.pop(0)
    for each in maps:
        total = total + resize_map(each, (total.shape[-2], total.shape[-1]))
    # in its place: of a large photograph the map is half a gibibyte
    return total.div_(torch.linalg.vector_norm(total, dim=1, keepdim=True).clamp_min(1e-12))[0]


def _read(encode: Callable[[Tensor], Tensor], shown: Tensor, stride: int, options: InferenceOptions) -> Tensor:
    return read_in_windows(shown, encode, stride, options.window or 0, options.overlap, hann)
