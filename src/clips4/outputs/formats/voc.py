"""Pascal VOC: palette PNGs in ``SegmentationClass/``, 0 for background, 255 for void; boxes in ``Annotations/``.

A class has the value of its place from 1 on, since 0 is background: a class of that name has 0. Unknown pixels are 255.
``labelmap.txt`` beside the maps names the values, as CVAT and Datumaro write and read it. A box encloses a connected
part of a class; its pixels are counted from 1, the last one included.
"""

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from clips4 import __version__
from clips4.errors import UserError
from clips4.outputs.labeled_image import MIN_SHARE, LabeledImage, connected_parts
from clips4.utils.images import encode_png
from clips4.utils.text import printable

BACKGROUND, VOID = "background", 255
IGNORED = "ignored"  # void in labelmap.txt; Datumaro refuses colors that it does not name


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
    """``labelmap.txt``: a line "name:r,g,b::" for background, each class in the order of values, and void."""
    named = {0: BACKGROUND, **dict(zip(voc_values(names), names, strict=True)), VOID: IGNORED}
    colors = voc_palette()
    lines = [f"{named[value]}:{','.join(map(str, colors[value]))}::\n" for value in sorted(named)]
    return "# label:color_rgb:parts:actions\n" + "".join(lines)


def voc_xml(result: LabeledImage, file_name: str, min_share: float = MIN_SHARE) -> str:
    """``Annotations/STEM.xml`` of one image: its size, and the box of every connected part but for background.

    Args:
        result: the image and its labels.
        file_name: of the image in ``JPEGImages/``.
        min_share: connected parts of a smaller share of the image are left out.
    """
    height, width = result.labels.shape
    lines = [
        "<annotation>",
        f"  <folder>JPEGImages</folder><filename>{escape(printable(file_name))}</filename>",
        f"  <source><database>clips4 {__version__}</database></source>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size><segmented>1</segmented>",
    ]
    for part in connected_parts(result.labels, min_share * result.labels.size)[1]:
        name = result.names[part.label]
        if name.casefold() != BACKGROUND:
            right, bottom = part.left + part.mask.shape[1], part.top + part.mask.shape[0]
            corners = {"xmin": part.left + 1, "ymin": part.top + 1, "xmax": right, "ymax": bottom}
            box = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
            state = "<pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
            lines.append(f"  <object><name>{escape(name)}</name>{state}<bndbox>{box}</bndbox></object>")
    return "\n".join([*lines, "</annotation>", ""])
