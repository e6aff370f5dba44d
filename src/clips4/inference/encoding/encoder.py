"""Encoder: images in any form to pixel embeddings, by one network. All of inference gets its embeddings here."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.encoding.tta import InferenceOptions, PixelEncoder, embed_with_options
from clips4.models.backbones.proxy import Proxy
from clips4.models.sliding_window import InferenceSize, at_inference_size
from clips4.utils.cache import image_key
from clips4.utils.image_input import ImageInput, ImageInputs, as_rgb, input_name
from clips4.utils.images import RGB

Precision = Literal["auto", "float32", "bfloat16", "float16"]

PLAIN = InferenceOptions()
_CACHE_BYTES = 2**28
_BATCH = 8  # images of one size that go through an accelerator together


class CachedEmbedding(NamedTuple):
    """What a network returned for an image: z (D, h, w), and keys (W, h, w) if key smoothing needs them."""

    z: Tensor
    keys: Tensor | None


class EmbeddingCache:
    """The embeddings used last, up to a number of bytes; safe to use from several threads.

    Args:
        limit: bytes kept at most; an embedding larger than that is not kept.
    """

    def __init__(self, limit: int):
        self._limit, self._bytes = limit, 0
        self._held: OrderedDict[Hashable, CachedEmbedding] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> CachedEmbedding | None:
        """The embedding of this key; None if it was never put, or is no longer kept."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Hashable, embedding: CachedEmbedding) -> None:
        """Keep an embedding; the least recently used are dropped."""
        with self._lock:
            if key in self._held or _bytes(embedding) > self._limit:
                return
            self._held[key] = embedding
            self._bytes += _bytes(embedding)
            while self._bytes > self._limit:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= _bytes(oldest)

    def __getstate__(self) -> int:
        return self._limit

    def __setstate__(self, limit: int) -> None:
        self.__init__(limit)  # type: ignore[misc]  # empty: the images can be encoded again

    def __len__(self) -> int:
        return len(self._held)


def _bytes(embedding: CachedEmbedding) -> int:
    return sum(part.numel() * part.element_size() for part in embedding if part is not None)


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
        proxy: of the graph of LPOSS.
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
        proxy: Proxy | None = None,
        cache_bytes: int = _CACHE_BYTES,
    ):
        self._network, self._stride, self.device = network, stride, device
        self._size = InferenceSize(size) if isinstance(size, int) else size
        self._precision, self._half, self._keyed = precision, half_precision(precision, device), keyed
        self._proxy = proxy
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
        if self._proxy is not None:
            self._proxy.to(device)
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

    def graph_features(self, images: Tensor) -> Tensor | None:
        """(B, 3, H, W) in [0, 1] -> (B, C, h, w) unit features of the proxy; None without one."""
        return None if self._proxy is None else self._proxy(images.to(self.device))

    def graph_features_of(self, image: RGB) -> Tensor | None:
        """(C, h, w) ``graph_features`` of an image at the size at which it is encoded, or those in the cache."""
        if self._proxy is None:
            return None
        key = image_key(image), "proxy"
        if self._cache is not None and (found := self._cache.get(key)):
            return found.z
        features = self._proxy(at_inference_size(image, self._size).to(self.device))[0]
        if self._cache is not None:
            self._cache.put(key, CachedEmbedding(features, None))
        return features

    def encode_image(self, image: ImageInput, options: InferenceOptions = PLAIN) -> EncodedImage:
        """Encode one image, or return it from the cache."""
        rgb = as_rgb(image)
        return EncodedImage(rgb, *self._encode_rgb([rgb], options)[0], source=_file(image))

    def embed(self, image: ImageInput, options: InferenceOptions = PLAIN) -> Tensor:
        """(D, h, w) unit along D: the embeddings of ``encode_image`` alone."""
        return self.encode_image(image, options).z

    def encode_images(
        self, images: ImageInputs, options: InferenceOptions = PLAIN, keep: bool = True
    ) -> Iterator[EncodedImage]:
        """Encode images in order; those of one size, some at a time, go through the network together.

        Args:
            images: paths, PIL images, arrays or tensors.
            options: how they are encoded.
            keep: whether the cache is used; not for images that come once.

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
            for image, rgb, embedding in zip(given, batch, self._encode_rgb(batch, options, keep), strict=True):
                yield EncodedImage(rgb, *embedding, source=_file(image))

    def _encode_rgb(self, images: list[RGB], options: InferenceOptions, keep: bool = True) -> list[CachedEmbedding]:
        """The embeddings of some images, from the cache where it has them."""
        if self._cache is None or not keep:
            return self._embed(images, options)
        plain = replace(options, refine=None)
        keys = [(image_key(rgb), plain) for rgb in images]
        found = {key: embedding for key in keys if (embedding := self._cache.get(key))}
        new = {key: rgb for key, rgb in zip(keys, images, strict=True) if key not in found}
        for key, embedding in zip(new, self._embed(list(new.values()), options), strict=True):
            found[key] = embedding
            self._cache.put(key, embedding)
        return [found[key] for key in keys]

    @torch.no_grad()
    def _embed(self, images: list[RGB], options: InferenceOptions) -> list[CachedEmbedding]:
        """What the network returns for some images; plain ones of one size take one pass."""
        if self._keyed is not None:
            several = (self.encode_with_keys(at_inference_size(rgb, self._size)) for rgb in images)
            return [CachedEmbedding(z[0], keys[0]) for z, keys in several if keys is not None]
        if len(images) < 2 or not options.plain:
            single = (embed_with_options(self.encode, rgb, self._size, self._stride, options) for rgb in images)
            return [CachedEmbedding(z, None) for z in single]
        resized = [at_inference_size(rgb, self._size) for rgb in images]
        found: dict[int, CachedEmbedding] = {}
        for size in {each.shape for each in resized}:
            numbers = [number for number, each in enumerate(resized) if each.shape == size]
            for number, z in zip(numbers, self.encode(torch.cat([resized[number] for number in numbers])), strict=True):
                found[number] = CachedEmbedding(z.clone(), None)
        return [found[number] for number in range(len(images))]


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
