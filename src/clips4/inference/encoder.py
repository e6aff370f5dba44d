"""Reader: pictures in any form to pixel embeddings, by one network, remembering those read last."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.embedding_cache import CachedEmbedding, EmbeddingCache
from clips4.inference.tta import InferenceOptions, PixelEncoder, read_pixels
from clips4.models.sliding_window import at_inference_size
from clips4.utils.cache import image_key
from clips4.utils.image_input import ImageInput, ImageInputs, as_rgb, input_name
from clips4.utils.images import RGB

Precision = Literal["auto", "float32", "bfloat16", "float16"]

_TOGETHER = 8  # pictures of one size that go through the network at a time


class KeyedEncoder(Protocol):
    """A teacher that gives the keys (B, W, h, w) of its last attention besides; key smoothing needs them."""

    def encode_pixels_and_keys(self, images: Tensor) -> tuple[Tensor, Tensor]: ...


class EncodedImage(NamedTuple):
    """A picture (H, W, 3), its pixel embeddings (D, h, w), and keys (W, h, w) where key smoothing asks for them."""

    image: RGB
    z: Tensor
    keys: Tensor | None


class Encoder:
    """Reads pictures with one network; may be used by several threads.

    Args:
        encoder: the network.
        long_side: larger pictures are reduced to it, at scale 1.
        stride: pixels per position of the network's map.
        device: where the network is.
        precision: of its arithmetic; "auto" is bfloat16 on a GPU that computes with it, else float32.
        keyed: asked instead of ``encoder`` where keys are wanted.
    """

    def __init__(
        self,
        encoder: PixelEncoder,
        long_side: int,
        stride: int,
        device: torch.device,
        precision: Precision = "auto",
        keyed: KeyedEncoder | None = None,
    ):
        self._encoder, self._long_side, self._stride, self._device = encoder, long_side, stride, device
        self._half, self._keyed = half_precision(precision, device), keyed
        self._cache = EmbeddingCache()

    def check(self, options: InferenceOptions) -> InferenceOptions:
        """The options, if they can be followed.

        Raises:
            UserError: a window that never acts, or several readings where keys are wanted.
        """
        options.check(self._long_side)
        if self._keyed is not None and not options.plain:
            raise UserError("key smoothing reads a picture once and whole; leave out scales, flip and window")
        return options

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w) float32, unit along D, read as they are."""
        with torch.autocast(self._device.type, self._half) if self._half else nullcontext():
            return self._encoder(images.to(self._device)).float()

    def read(self, image: ImageInput, options: InferenceOptions) -> EncodedImage:
        """Read one picture, or remember it."""
        return self._read(as_rgb(image), options)

    def read_all(self, images: ImageInputs, options: InferenceOptions) -> Iterator[EncodedImage]:
        """Read pictures in their order; those of one size, some at a time, go through the network together.

        Raises:
            UserError: one cannot be read; the message names it.
        """
        for start in range(0, len(images), _TOGETHER):
            some = []
            for number, image in enumerate(images[start : start + _TOGETHER], start):
                try:
                    some.append(as_rgb(image))
                except UserError as error:
                    name = input_name(image, number)
                    raise UserError(str(error) if name in str(error) else f"{name}: {error}")
            if options.plain and self._keyed is None:
                self._read_together(some, options)
            for rgb in some:
                yield self._read(rgb, options)

    @torch.no_grad()
    def _read(self, rgb: RGB, options: InferenceOptions) -> EncodedImage:
        key = image_key(rgb), replace(options, refine=None)
        reading = self._cache.get(key)
        if reading is None:
            if self._keyed is not None:
                shown = at_inference_size(rgb, self._long_side).to(self._device)
                z, keys = self._keyed.encode_pixels_and_keys(shown)
                reading = CachedEmbedding(z[0], keys[0])
            else:
                reading = CachedEmbedding(read_pixels(self.encode, rgb, self._long_side, self._stride, options), None)
            self._cache.put(key, reading)
        return EncodedImage(rgb, *reading)

    def _read_together(self, images: list[RGB], options: InferenceOptions) -> None:
        """Put the readings of pictures into the cache, those of one size by one pass of the network."""
        how = replace(options, refine=None)
        new = {(image_key(rgb), how): rgb for rgb in images}
        shown = {key: at_inference_size(rgb, self._long_side) for key, rgb in new.items() if not self._cache.get(key)}
        for size in {each.shape for each in shown.values()}:
            keys = [key for key, each in shown.items() if each.shape == size]
            for key, z in zip(keys, self.encode(torch.cat([shown[key] for key in keys])), strict=True):
                self._cache.put(key, CachedEmbedding(z.clone(), None))


def half_precision(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The type that a network computes in, None for float32.

    Raises:
        UserError: no such precision.
    """
    if precision not in get_args(Precision):
        raise UserError(f"precision {precision!r}: there is {', '.join(get_args(Precision))}")
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    halves = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return halves[precision]
