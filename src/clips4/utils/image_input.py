"""An image in any form: path, PIL image, array or tensor."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from typing_extensions import TypeIs

from clips4.errors import UserError, UserTypeError
from clips4.utils.image_file import check_pixels
from clips4.utils.images import RGB, load_rgb, pil_to_rgb, to_8bit

ImageInput = str | Path | Image.Image | NDArray[Any] | Tensor
ImageInputs = list[Any] | tuple[ImageInput, ...]  # lists are invariant: any list of images
ImageStream = Iterator[Any]  # images one at a time, such as those of a generator

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")  # two letters at least: C:/ is a drive


def is_many(images: ImageInput | ImageInputs | ImageStream) -> TypeIs[ImageInputs]:
    """Whether this is a list or tuple of images rather than one image.

    Raises:
        UserError: it is empty.
    """
    if not isinstance(images, (list, tuple)):
        return False
    if not len(images):
        raise UserError("an empty list of images; give at least one")
    return True


def is_stream(images: object) -> TypeIs[Iterable[Any]]:
    """Whether this yields images one at a time: a generator, a map, a set, but no list, which is held whole."""
    single = (str, bytes, Path, Image.Image, np.ndarray, Tensor, Mapping, list, tuple)
    return isinstance(images, Iterable) and not isinstance(images, single)


def input_name(image: ImageInput, number: int = 0) -> str:
    """The name of an image in messages: its file, or its number in the list."""
    return str(image) if isinstance(image, (str, Path)) else f"image {number + 1}"


def as_rgb(image: ImageInput) -> RGB:
    """(H, W, 3) uint8 of an image in any form, as a viewer would show it (see ``images.load_rgb``).

    Args:
        image: a path; a PIL image; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, of uint16 (scaled
            as 16-bit files are) or of floats in [0, 1]; or a tensor (3, H, W) of uint8 or of floats in [0, 1].

    Raises:
        UserError: a URL, an unreadable file or image, too many pixels, a wrong shape or type, NaN, or floats outside
            [0, 1].
        UserTypeError: none of these.
    """
    if isinstance(image, (str, Path)):
        if _URL.match(str(image)):
            raise UserError(f"{image}: URLs are not fetched; download the image and give its path")
        return load_rgb(image)
    if isinstance(image, Image.Image):
        check_pixels("an image", image.width, image.height)
        try:
            return pil_to_rgb(image)
        except Exception as error:  # PIL reads an opened file only now, and raises almost anything
            raise UserError(f"damaged image ({error}); copy it again from its source")
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3:
            raise UserError(f"a tensor image is (3, H, W), got {tuple(image.shape)}")
        values = image.detach().cpu().permute(1, 2, 0)
        image = (values.float() if values.is_floating_point() else values).numpy()  # NumPy has no bfloat16
    if not hasattr(image, "__array__"):
        raise UserTypeError(f"an image is a path, a PIL image, an array or a tensor, got {type(image).__name__}")
    return _array_to_rgb(np.asarray(image))


def _array_to_rgb(array: NDArray[Any]) -> RGB:
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise UserError(f"an array image is (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
    check_pixels("an image", array.shape[1], array.shape[0])
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UserError("a float image has values in [0, 1]; this one has others, or NaN")
        array = np.round(255 * array).astype(np.uint8)
    if array.dtype == np.uint16:
        array = to_8bit(array)
    if array.dtype != np.uint8:
        raise UserError(f"an array image is uint8, uint16 or float, got {array.dtype}")
    return pil_to_rgb(Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array))
