"""What a segmenter does with images before any class name: encode them, keep one, move to a device."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Self, cast, overload

import torch
from torch import Tensor

from clips4.data.image_folder import find_images
from clips4.errors import UserError
from clips4.inference.encoding.encoder import EncodedImage, Encoder
from clips4.inference.encoding.tta import InferenceOptions
from clips4.utils.devices import pick_device
from clips4.utils.image_input import ImageInput, ImageInputs, ImageStream, is_many, is_stream


class ImageEncoder:
    """Encodes images by one network; ``Segmenter`` adds class names.

    Args:
        encoder: the network with its sizes and cache.
        options: how images are encoded unless a call says otherwise.

    Attributes:
        options: how images are encoded.
    """

    def __init__(self, encoder: Encoder, options: InferenceOptions | None = None):
        self._encoder, self._current = encoder, cast(EncodedImage | None, None)
        self.options = encoder.check(options or InferenceOptions())

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_current": None}

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self._encoder.device

    def to(self, device: str | torch.device) -> Self:
        """Move the network to a device, in place.

        Args:
            device: "auto", "cpu", "cuda", "cuda:1", "mps".

        Returns:
            The segmenter itself.

        Raises:
            UserError: there is no such device, or the network is an ONNX file, which stays where it was loaded.

        Example:
            >>> Segmenter.load("runs/pets").to("cpu").device
            device(type='cpu')
        """
        self._encoder.to(pick_device(str(device)))
        self._current = None if self._current is None else self._current.to(self.device)
        return self

    def set_image(self, image: ImageInput, options: InferenceOptions | None = None) -> None:
        """Encode an image once, for any number of calls of ``segment``, ``embed`` and ``cluster`` without an image.

        Args:
            image: a path, PIL image, array or tensor.
            options: how it is encoded.

        Raises:
            UserError: an unreadable image.

        Example:
            >>> segmenter.set_image("photo.jpg")
            >>> segmenter.segment(classes=["cat", "grass"]).names
            ('cat', 'grass')
        """
        self._current = self.encode_image(image, options)

    @overload
    def embed(self, images: ImageInput | None = None, options: InferenceOptions | None = None) -> Tensor: ...

    @overload
    def embed(self, images: ImageInputs, options: InferenceOptions | None = None) -> list[Tensor]: ...

    @overload
    def embed(self, images: ImageStream, options: InferenceOptions | None = None) -> Iterator[Tensor]: ...

    def embed(
        self, images: ImageInput | ImageInputs | ImageStream | None = None, options: InferenceOptions | None = None
    ) -> Tensor | list[Tensor] | Iterator[Tensor]:
        """Pixel embeddings of one or several images.

        Args:
            images: as for ``segment``.
            options: how the images are encoded.

        Returns:
            (D, h, w) unit along D for one image; a list of them for a list, an iterator for a folder or generator.

        Raises:
            UserError: an unreadable image.

        Example:
            >>> segmenter.embed("photo.jpg").norm(dim=0).mean().round(decimals=3)
            tensor(1.)
        """
        options = self._options(options)
        if (stream := self._stream(images)) is not None:
            return (encoded.z.clone() for encoded in map(partial(self.encode_image, options=options), stream))
        if images is not None and is_many(images):
            return [each.z.clone() for each in self.encode_images(images, options)]
        return self._one(cast(ImageInput | None, images), options).z.clone()

    def encode_image(self, image: ImageInput, options: InferenceOptions | None = None) -> EncodedImage:
        """Encode one image for any number of ``predict`` or ``classify``; the last ones are cached.

        Args:
            image: a path, PIL image, array or tensor.
            options: how it is encoded.

        Returns:
            The image (H, W, 3) and its embeddings z (D, h, w), unit along D.

        Raises:
            UserError: an unreadable image.

        Example:
            >>> segmenter.encode_image("photo.jpg").image.shape
            (72, 96, 3)
        """
        return self._encoder.encode_image(image, self._options(options))

    def encode_images(
        self, images: ImageInputs, options: InferenceOptions | None = None, keep: bool = True
    ) -> Iterator[EncodedImage]:
        """Encode images in order, each when it is needed; on an accelerator ``batch`` of one size together.

        Args:
            images: paths, PIL images, arrays or tensors.
            options: how they are encoded.
            keep: whether their embeddings are cached; False for many images of which each comes once.

        Yields:
            What ``encode_image`` returns, of each.

        Raises:
            UserError: an unreadable image; the message names it.

        Example:
            >>> len(list(segmenter.encode_images(["photo.jpg", "photo.jpg"])))
            2
        """
        return self._encoder.encode_images(images, self._options(options), keep)

    @property
    def batch(self) -> int:
        """Images that go through the network together: 1 on a CPU, where several take longer than one by one."""
        return self._encoder.batch

    def encode(self, images: Tensor) -> Tensor:
        """Embeddings at the size given, for protocols that set it.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            (B, D, h, w) float32, unit along D.

        Example:
            >>> import torch
            >>> segmenter.encode(torch.rand(2, 3, 64, 96)).shape[0]
            2
        """
        return self._encoder.encode(images)

    def encode_with_keys(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """``encode``, and the keys of a teacher whose scores are smoothed by them.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            (B, D, h, w) float32, unit along D; and (B, W, h, w) unit keys, or None without key smoothing.

        Example:
            >>> import torch
            >>> z, keys = segmenter.encode_with_keys(torch.rand(1, 3, 64, 96))
            >>> keys is None
            True
        """
        return self._encoder.encode_with_keys(images)

    def graph_features(self, encoded: EncodedImage) -> Tensor | None:
        """What LPOSS makes its graph from, where the teacher has a proxy; see ``refine.lposs``.

        Args:
            encoded: of ``encode_image``.

        Returns:
            (C, h, w) unit along C, at the proxy's own positions; None without a proxy.

        Example:
            >>> segmenter.graph_features(segmenter.encode_image("photo.jpg")) is None
            True
        """
        return self._encoder.graph_features_of(encoded.image)

    def graph_features_at_size(self, images: Tensor) -> Tensor | None:
        """``graph_features`` at the size given, for protocols that set it.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            (B, C, h, w) unit along C; None without a proxy.

        Example:
            >>> import torch
            >>> segmenter.graph_features_at_size(torch.rand(2, 3, 64, 96)) is None
            True
        """
        return self._encoder.graph_features(images)

    def _options(self, options: InferenceOptions | None) -> InferenceOptions:
        return self.options if options is None else self._encoder.check(options)

    def _stream(self, images: ImageInput | ImageInputs | ImageStream | None) -> Iterable[ImageInput] | None:
        """The images of a folder or generator; None for one image and for a list."""
        if isinstance(images, (str, Path)):
            return find_images(images) if Path(images).is_dir() else None
        return images if images is not None and is_stream(images) else None

    def _one(self, image: ImageInput | None, options: InferenceOptions | None) -> EncodedImage:
        if image is not None:
            return self.encode_image(image, options)
        if self._current is None:
            raise UserError("no image: pass one, or set one with set_image")
        return self._current
