"""Object masks of videos as DAVIS stores them: one PNG a frame, 0 for no object; numpy alone, no torch."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clips4.data.label_maps import IGNORE
from clips4.errors import UserError

Rules = Literal["davis16", "davis17"]


def guess_rules(first: Path) -> Rules:
    """The rules that fit a sequence's first true mask: DAVIS-2016 if it holds 0 and 255 alone, else DAVIS-2017."""
    values = set(np.unique(_read(first)).tolist())
    return "davis16" if values <= {0, IGNORE} and IGNORE in values else "davis17"


def read_mask(path: Path, rules: Rules) -> NDArray[np.uint8]:
    """(H, W) objects 1, 2, ... and 0 for none.

    Palette and gray PNGs are read as stored. RGB images are accepted if they are gray or if every color is one of
    the DAVIS palette.

    Args:
        path: of the PNG.
        rules: "davis16" (every value but 0 is the one object) or "davis17" (each value is an object, 255 is void).

    Raises:
        UserError: the file is not readable, or has other colors.
    """
    values = _read(path)
    if rules == "davis16":
        return (values != 0).astype(np.uint8)
    return np.where(values == IGNORE, 0, values).astype(np.uint8)


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if image.mode in {"L", "P", "1"}:
                return np.array(image).astype(np.uint8) * (IGNORE if image.mode == "1" else 1)
            if image.mode not in {"RGB", "RGBA"}:
                raise UserError(f"{path}: mode {image.mode}; save masks as 8-bit gray, palette or RGB images")
            return _objects_of_colors(np.array(image.convert("RGB")), path)
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: not a readable mask ({error}); copy it again from its source")


def _objects_of_colors(rgb: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    if (rgb == rgb[..., :1]).all():
        return rgb[..., 0]
    codes = rgb.astype(np.int32) @ np.array([65536, 256, 1])
    known = davis_palette().astype(np.int32) @ np.array([65536, 256, 1])
    found, inverse = np.unique(codes, return_inverse=True)
    if strange := [code for code in found.tolist() if code not in set(known.tolist())]:
        raise UserError(f"{path}: color #{strange[0]:06x} is not in the DAVIS palette; save masks as palette PNGs")
    numbers = np.array([int(np.flatnonzero(known == code)[0]) for code in found], np.uint8)
    return numbers[inverse.reshape(codes.shape)]


def davis_palette() -> NDArray[np.uint8]:
    """(256, 3) uint8, the palette of Pascal VOC and DAVIS: the bits of a number, dealt in turn to R, G and B."""
    numbers = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors
