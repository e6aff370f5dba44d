"""Pascal VOC's label maps: palette PNGs in ``SegmentationClass/``, 0 for background, 255 for void.

A class has the value of its place from 1 on, since 0 is background: a class of that name has 0. Unknown pixels are 255.
``labelmap.txt`` beside the maps names the values, as CVAT and Datumaro write and read it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clips4.errors import UserError
from clips4.outputs.labeled_image import LabeledImage
from clips4.utils.images import encode_png

BACKGROUND, VOID = "background", 255


def voc_values(names: Sequence[str]) -> list[int]:
    """(K,) the value of each class.

    Raises:
        UserError: more classes than a map of 8 bits holds.

    Example:
        >>> voc_values(["cat", "background", "dog"])
        [1, 0, 2]
    """
    values, free = [], iter(range(1, VOID))
    for name in names:
        value = 0 if name.casefold() == BACKGROUND else next(free, None)
        if value is None:
            raise UserError(f"{len(names)} classes: maps of Pascal VOC hold 254 of them; save png")
        values.append(value)
    return values


def voc_palette() -> NDArray[np.uint8]:
    """(256, 3) VOC's colors: bit j of a channel's byte, from the highest on, is bit 3 j + channel of the value."""
    values, colors = np.arange(256), np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((values >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors


def voc_png(result: LabeledImage) -> bytes:
    """The map of one image, of the image's own size."""
    table = np.array([*voc_values(result.names), VOID], np.uint8)  # the last for -1, unknown
    return encode_png(table[result.labels], voc_palette().tolist())


def labelmap(names: Sequence[str]) -> str:
    """``labelmap.txt``: a line "name:r,g,b::" for background and each class, in the order of values."""
    named = {0: BACKGROUND, **dict(zip(voc_values(names), names, strict=True))}
    colors = voc_palette()
    lines = [f"{named[value]}:{','.join(map(str, colors[value]))}::\n" for value in sorted(named)]
    return "# label:color_rgb:parts:actions\n" + "".join(lines)
