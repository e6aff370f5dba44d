"""Encoder: images in any form to pixel embeddings, by one network. All of inference gets its embeddings here."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.embedding_cache import BYTES, CachedEmbedding, EmbeddingCache
from clips4.inference.tta import InferenceOptions, PixelEncoder, embed_with_options
from clips4.models.sliding_window import InferenceSize, at_inference_size
from clips4.utils.cache import image_key
from clips4.utils.image_input import ImageInput, ImageInputs, as_rgb, input_name
from clips4.utils.images import RGB

Precision = Literal["auto", "float32", "bfloat16", "float16"]

PLAIN = InferenceOptions()
_BATCH = 8  # images of one size that go through an accelerator together


class KeyedEncoder(Protocol):
    """A teacher that also returns the keys (B, W, h, w) of its last attention, which key smoothing needs."""

    def encode_pixels_and_keys(self, images: Tensor) -> tuple[Tensor, Tensor]: ...


class EncodedImage(NamedTuple):
    """An image (H, W, 3), its pixel embeddings (D, h, w), and keys (W, h, w) if key smoothing needs them.

    ``source`` is the image's file, if it came from one.
    """

    image: RGB
    z: Tensor
    keys: Tensor | None
    source: str = ""

    def __repr__(self) -> str:
        (height, width), z = self.image.shape[:2], " x ".join(map(str, self.z.shape))
        return f"EncodedImage({self.source}{' ' * bool(self.source)}{width} x {height} pixels, z {z})"

    def to(self, device: torch.device) -> "EncodedImage":
        """The same with its tensors on a device."""
        return self._replace(z=self.z.to(device), keys=None if self.keys is None else self.keys.to(device))


class Encoder:
    """Encodes images with one network; safe to use from several threads.

    Args:
        network: (B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D.
        size: larger images are reduced to it, or to this long side, at scale 1.
        stride: pixels per position of the network's map.
        device: of the network.
        precision: of its arithmetic; "auto" is bfloat16 on a GPU that supports it, else float32.
        keyed: called instead of ``network`` if keys are needed.
        cache_bytes: of the embeddings kept in memory, so that another query for an image does not encode it again; 0
            for images that are seen once, such as the frames of a video.
    """

    def __init__(
        self,
        network: PixelEncoder,
        size: int | InferenceSize,
        stride: int,
        device: torch.device,
        precision: Precision = "auto",
        keyed: KeyedEncoder | None = None,
        cache_bytes: int = BYTES,
    ):
        self._network, self._stride, self.device = network, stride, device
        self._size = InferenceSize(size) if isinstance(size, int) else size
        self._precision, self._half, self._keyed = precision, half_precision(precision, device), keyed
        self._cache_bytes = cache_bytes
        self._cache = EmbeddingCache(cache_bytes) if cache_bytes else None

    @property
    def batch(self) -> int:
        """Images that ``encode_images`` takes together."""
        return batch_on(self.device)

    def to(self, device: torch.device) -> None:
        """Move the network, in place; embeddings of earlier images are forgotten.

        Raises:
            UserError: it is an ONNX file, or has no method ``to``.
        """
        # encode_pixels of a teacher is a method of what has to move
        owner = getattr(self._network, "__self__", self._network)
        if not hasattr(owner, "to"):
            raise UserError(f"this network stays on {self.device}; load it with device={str(device)!r}")
        owner.to(device)
        self.device, self._half = device, half_precision(self._precision, device)
        self._cache = EmbeddingCache(self._cache_bytes) if self._cache_bytes else None

    def check(self, options: InferenceOptions) -> InferenceOptions:
        """The options, if this encoder can follow them.

        Raises:
            UserError: a window that never acts, or several passes although keys are needed.
        """
        options.check(self._size.largest)
        if self._keyed is not None and not options.plain:
            raise UserError("key smoothing encodes an image once and whole; leave out scales, flip and window")
        return options

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w) float32, unit along D, at the size given."""
        with torch.autocast(self.device.type, self._half) if self._half else nullcontext():
            return self._network(images.to(self.device)).float()

    @torch.no_grad()
    def encode_with_keys(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """``encode``, and the keys (B, W, h, w) of the same positions where key smoothing needs them."""
        if self._keyed is None:
            return self.encode(images), None
        return self._keyed.encode_pixels_and_keys(images.to(self.device))

    def encode_image(self, image: ImageInput, options: InferenceOptions = PLAIN) -> EncodedImage:
        """Encode one image, or return it from the cache."""
        return self._encode_rgb(as_rgb(image), options)._replace(source=_file(image))

    def embed(self, image: ImageInput, options: InferenceOptions = PLAIN) -> Tensor:
        """(D, h, w) unit along D: the embeddings of ``encode_image`` alone."""
        return self.encode_image(image, options).z

    def encode_images(self, images: ImageInputs, options: InferenceOptions = PLAIN) -> Iterator[EncodedImage]:
        """Encode images in order; those of one size, some at a time, go through the network together.

        Raises:
            UserError: an unreadable image; the message names it.
        """
        for start in range(0, len(images), self.batch):
            batch, given = [], images[start : start + self.batch]
            for number, image in enumerate(given, start):
                try:
                    batch.append(as_rgb(image))
                except UserError as error:
                    name = input_name(image, number)
                    raise type(error)(str(error) if name in str(error) else f"{name}: {error}")
            if len(batch) > 1 and options.plain and self._keyed is None and self._cache is not None:
                self._cache_batch(self._cache, batch, options)
            for image, rgb in zip(given, batch, strict=True):
                yield self._encode_rgb(rgb, options)._replace(source=_file(image))

    @torch.no_grad()
    def _encode_rgb(self, rgb: RGB, options: InferenceOptions) -> EncodedImage:
        if self._cache is None:
            return EncodedImage(rgb, *self._embed(rgb, options))
        key = image_key(rgb), replace(options, refine=None)
        embedding = self._cache.get(key)
        if embedding is None:
            embedding = self._embed(rgb, options)
            self._cache.put(key, embedding)
        return EncodedImage(rgb, *embedding)

    def _embed(self, rgb: RGB, options: InferenceOptions) -> CachedEmbedding:
        if self._keyed is None:
            return CachedEmbedding(embed_with_options(self.encode, rgb, self._size, self._stride, options), None)
        z, keys = self.encode_with_keys(at_inference_size(rgb, self._size))
        assert keys is not None
        return CachedEmbedding(z[0], keys[0])

    def _cache_batch(self, cache: EmbeddingCache, images: list[RGB], options: InferenceOptions) -> None:
        """Put the embeddings of images into the cache, one pass of the network for those of one size."""
        plain = replace(options, refine=None)
        new = {(image_key(rgb), plain): rgb for rgb in images}
        resized = {key: at_inference_size(rgb, self._size) for key, rgb in new.items() if not cache.get(key)}
        for size in {each.shape for each in resized.values()}:
            keys = [key for key, each in resized.items() if each.shape == size]
            for key, z in zip(keys, self.encode(torch.cat([resized[key] for key in keys])), strict=True):
                cache.put(key, CachedEmbedding(z.clone(), None))


def batch_on(device: torch.device) -> int:
    """Images of one size that go through a network together: several on an accelerator.

    On a CPU each alone takes no longer, and its embeddings do not depend on those beside it, not even in the last bit.
    """
    return 1 if device.type == "cpu" else _BATCH


def half_precision(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The type that a network computes in, None for float32.

    Raises:
        UserError: an unknown precision.
    """
    if precision not in get_args(Precision):
        raise UserError(f"precision {precision!r}: choose one of {', '.join(get_args(Precision))}")
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    halves = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return halves[precision]


def _file(image: ImageInput) -> str:
    return str(image) if isinstance(image, (str, Path)) else ""
