"""Images in and out: safe decoding, resizing, palettes, overlays. Imports no torch, so that region jobs start fast."""

import io
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from clips4.errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
MAX_PIXELS = 178_956_970  # larger images count as decompression bombs; Pillow has the same limit
ORIENTATION = 0x0112  # the EXIF tag: how stored pixels are turned and mirrored to be displayed, 1 to 8

RGB = NDArray[np.uint8]  # (H, W, 3)


def load_rgb(path: str | Path) -> RGB:
    """Decode an image to 8-bit RGB as a viewer would show it.

    EXIF rotation is applied, 16-bit values are scaled down, CMYK, gray and palette images are converted, transparent
    pixels are blended with white, and only the first frame of an animation or a multi-page file is read.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UserError: the file is missing, not an image, truncated, or has more than ``MAX_PIXELS`` pixels.
    """
    return decode_rgb(Path(path), str(path))


def decode_rgb(source: Path | bytes, name: str) -> RGB:
    """``load_rgb`` of a file or of its bytes; ``name`` is used in error messages."""
    try:
        # Pillow warns of large images and odd tags; what matters raises UserError
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{name}: {image.width} x {image.height} pixels are too many; resize the image")
            image.seek(0)
            image.load()
            return pil_to_rgb(ImageOps.exif_transpose(image))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{name}: no such file")
    except UnidentifiedImageError:
        raise UserError(f"{name}: not an image, or of an unsupported format; open it and save it as JPEG or PNG")
    except Image.DecompressionBombError:
        raise UserError(f"{name}: more than {MAX_PIXELS} pixels are too many; resize the image")
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise UserError(f"{name}: damaged image ({error}); copy it again from its source")


def turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
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


def pil_to_rgb(image: Image.Image) -> RGB:
    """(H, W, 3) uint8 of an open PIL image of any mode; see ``load_rgb``."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(deep_to_8bit(np.asarray(image))[..., None], 3, 2)
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image.convert("RGB"))


def deep_to_8bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale values to 8 bits.

    Integers are scaled from the smallest of 8, 16 and 32 bits that holds them, floats from [0, 1], others from their
    own range.
    """
    x = np.nan_to_num(values.astype(np.float64))
    low, high = float(x.min()), float(x.max())
    if values.dtype.kind in "iu" and low >= 0:
        low, high = 0.0, next(float(2**bits - 1) for bits in (8, 16, 32) if high < 2**bits)
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
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
