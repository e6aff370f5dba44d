"""Images as arrays: decoding to RGB, resizing, palettes, overlays. Imports no torch, so that region jobs start fast."""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clips4.errors import UserError
from clips4.utils.image_file import open_image, orientation

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"}
    | {".jp2", ".j2k", ".avif", ".heic", ".heif"}
)
VALUE_RANGE = "CLIPS4_VALUE_RANGE"  # an environment variable, so that workers have it, too

_GDAL_NODATA = 42113  # a TIFF's tag: the value of pixels without data, as text
_FILLS = (-999, -9999, -99999, -999999, -32767, -32768, -(2**31))  # values of no data, where they are the smallest
_HUGE = 1e20  # no value beyond it is data: fills of climate models, netCDF and ESRI
_JPEG_SIDE = 65_500  # pixels, the longest of a JPEG
_BAND = 1 << 22  # pixels that are worked on at once

RGB = NDArray[np.uint8]  # (H, W, 3)
_T = TypeVar("_T", bound=np.generic)


def turned(values: NDArray[_T], orientation: int) -> NDArray[_T]:
    """Stored pixels (H, W, ...) as an EXIF orientation displays them; 5 to 8 swap the sides.

    Example:
        >>> turned(np.array([[1, 2]]), 6).tolist()
        [[1], [2]]
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)


def load_rgb(path: str | Path) -> RGB:
    """Decode an image to 8-bit RGB as a viewer would show it.

    EXIF rotation is applied, values of more than 8 bits are scaled (see ``to_8bit``), CMYK, gray and palette images are
    converted, transparent pixels are blended with white, and only the first frame of an animation or a multi-page file
    is read.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UserError: the file is missing, not an image, truncated, or larger than the limits; see
            ``image_file.open_image``.
    """
    return decode_rgb(Path(path), str(path))


def decode_rgb(source: Path | bytes, name: str) -> RGB:
    """``load_rgb`` of a file or of its bytes; ``name`` is used in error messages."""
    with open_image(source, name) as image:
        return pil_to_rgb(image)


def pil_to_rgb(image: Image.Image) -> RGB:
    """(H, W, 3) uint8 of an open PIL image of any mode, as displayed; see ``load_rgb``."""
    image.load()
    if image.mode == "F" or image.mode.startswith("I"):
        tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
        return turned(np.repeat(to_8bit(_stored(image, tags), _nodata(tags))[..., None], 3, 2), orientation(image))
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        band = image.crop((0, top, image.width, bottom))
        if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
            rgba = band.convert("RGBA")
            band = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        rgb[top:bottom] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return turned(rgb, orientation(image))


def _stored(image: Image.Image, tags: Mapping[int, Any]) -> NDArray[Any]:
    """Gray values in the file's own type: Pillow widens some to 32 bits."""
    values = np.asarray(image)
    if image.mode != "I":
        return values
    if image.format in {"PNG", "PPM"}:
        return values.astype(np.uint16)
    if tags.get(258) == (16,):  # bits per sample of a TIFF; Pillow keeps those without a sign as they are
        return values.astype(np.int16)
    return values.view(np.uint32) if tags.get(258) == (32,) and tags.get(339, (1,)) == (1,) else values


def _nodata(tags: Mapping[int, Any]) -> float:
    try:
        return float(tags.get(_GDAL_NODATA, "nan").strip(" \0"))
    except (ValueError, AttributeError):
        return math.nan


def value_range() -> tuple[float, float] | None:
    """The values that are black and white in all files, from ``$CLIPS4_VALUE_RANGE``; None if it is not set.

    Raises:
        UserError: it is not LOW,HIGH.
    """
    if not (text := os.environ.get(VALUE_RANGE)):
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise UserError(f"{VALUE_RANGE}={text}: give the values of black and white, such as 0,4095")
    return low, high


def range_settings() -> dict[str, object]:
    """What a settings hash takes of ``value_range``; nothing if it is not set."""
    stated = value_range()
    return {"value_range": stated} if stated else {}


def to_8bit(values: NDArray[Any], nodata: float = math.nan) -> NDArray[np.uint8]:
    """Scale gray values to 8 bits.

    ``value_range``, if it is set, holds for every file. Otherwise 16-bit integers are scaled from the range of their
    type, so that all frames of a sequence keep one scale; 32-bit integers from the smallest of 8, 16 and 32 bits that
    holds them; floats from [0, 1] if they lie in it, else, like integers below 0, from the smallest to the largest
    valid value of the file. Pixels without data are black: NaN, infinity, values beyond 1e20, ``nodata``, and the usual
    fills (-9999, -32768, ...) where they are the smallest value.

    Args:
        values: (H, W) floats or integers.
        nodata: the value of pixels without data that the file states.

    Returns:
        (H, W) uint8.
    """
    stated = value_range()
    if values.dtype.kind in "iu" and values.dtype.itemsize == 2:
        kinds = np.iinfo(values.dtype)
        low, high = stated or (kinds.min, kinds.max)
        table = _scaled(np.arange(65536).astype(np.uint16).view(values.dtype.newbyteorder("=")), low, high)
        return table[values.astype(values.dtype.newbyteorder("="), copy=False).view(np.uint16)]
    valid = np.isfinite(values) & (np.abs(values) < _HUGE)
    if not math.isnan(nodata):
        valid &= values != nodata
    low, high = _extremes(values, valid)
    while low in _FILLS:
        valid &= values != low
        low, high = _extremes(values, valid)
    if stated:
        low, high = stated
    elif values.dtype.kind in "iu" and low >= 0:
        low, high = 0.0, next(float(2**bits - 1) for bits in (8, 16, 32) if high < 2**bits)
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scaled = np.zeros(values.shape, np.uint8)
    rows = max(1, _BAND // values.shape[1])
    for top in range(0, len(values), rows):
        band = slice(top, top + rows)
        scaled[band][valid[band]] = _scaled(values[band][valid[band]], low, high)
    return scaled


def _extremes(values: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[float, float]:
    """The smallest and the largest valid value; (0, 1) if none is."""
    if not valid.any():
        return 0.0, 1.0
    kinds: Any = np.iinfo(values.dtype) if values.dtype.kind in "iu" else np.finfo(values.dtype)
    low = np.min(values, where=valid, initial=kinds.max)
    return float(low), float(np.max(values, where=valid, initial=kinds.min))


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    x = np.clip(values.astype(np.float64), low, high)
    return np.round(255 * (x - low) / max(high - low, 1e-12)).astype(np.uint8)


def reduce_to(image: RGB, long_side: int) -> RGB:
    """The image, scaled down so that its long side is at most ``long_side`` pixels."""
    height, width = image.shape[:2]
    factor = long_side / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


# ------------------------------------------------------------------------------------------------------- colors


def palette(count: int) -> NDArray[np.uint8]:
    """(count, 3) distinct colors, the same in every run: hues by the golden angle, three levels of lightness."""
    import colorsys

    colors = []
    for index in range(count):
        hue = (0.02 + index * 0.61803398875) % 1
        light = (0.50, 0.66, 0.38)[index % 3]
        saturation = (0.78, 0.62, 0.70)[(index // 3) % 3]
        colors.append([round(255 * c) for c in colorsys.hls_to_rgb(hue, light, saturation)])
    return np.array(colors, np.uint8).reshape(-1, 3)


UNKNOWN_NAME, UNKNOWN_COLOR = "unknown", (150, 150, 150)  # of pixels that none of the classes fits


def color_labels(labels: NDArray[np.integer], colors: NDArray[np.uint8]) -> RGB:
    """(H, W) labels -> (H, W, 3); labels without a color (such as unknown, -1) are gray."""
    table = np.concatenate([colors, np.array([UNKNOWN_COLOR], np.uint8)])
    inside = (labels >= 0) & (labels < len(colors))
    return table[np.where(inside, labels, len(colors))]


def boundaries(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(H, W) pixels whose right or lower neighbor has another label."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def blend(image: RGB, colors: RGB, alpha: float, edges: NDArray[np.bool_] | None = None) -> RGB:
    """The image (H, W, 3) with colors blended in at opacity ``alpha``, and white lines on ``edges`` (H, W)."""
    mixed = (1 - alpha) * image + alpha * colors
    if edges is not None:
        mixed[edges] = 255
    return np.round(mixed).astype(np.uint8)


# --------------------------------------------------------------------------------------------------------- files


def encode_png(image: NDArray[np.generic], colors: Sequence[Sequence[int]] | None = None) -> bytes:
    """PNG bytes of (H, W, 3) uint8, (H, W) uint8 (with ``colors`` a palette image) or (H, W) uint16."""
    output = Image.fromarray(np.ascontiguousarray(image))
    if colors is not None:
        output = output.convert("L")
        output.putpalette([value for color in colors for value in color])
    buffer = io.BytesIO()
    output.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def encode_jpeg(image: RGB, quality: int = 88) -> bytes:
    """JPEG bytes of (H, W, 3), with colors at full resolution; reduced where a side is longer than JPEG allows."""
    buffer = io.BytesIO()
    small = reduce_to(image, _JPEG_SIDE)
    Image.fromarray(small).save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
    return buffer.getvalue()
