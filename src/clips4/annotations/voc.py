"""Pascal VOC's boxes: one XML file an image in ``Annotations/``; a smaller box covers a larger one.

Boxes are rougher than masks: where ``SegmentationClass/`` is beside them, that is read instead. Their pixels are
counted from 1, the last one included. Beside label maps, ``labelmap.txt`` names the values, one a line in their order
("cat:128,0,0::").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.annotations.shapes import AnnotatedImage, Shape, box, points, read_xml, whole
from clips4.data.label_maps import IGNORE, read_stored
from clips4.errors import UserError
from clips4.outputs.formats.voc import IGNORED
from clips4.utils.image_file import check_pixels
from clips4.utils.text import read_text

LABELMAP = "labelmap.txt"


def read_voc(path: Path) -> AnnotatedImage | None:
    """The boxes of one file; None if it is an XML file of something else.

    Raises:
        UserError: no size or file name, or a box that is not understood.
    """
    root = read_xml(path)
    if root.tag != "annotation":
        return None
    height, width = (whole(root.findtext(f"size/{side}"), str(path), side, 1) for side in ("height", "width"))
    check_pixels(str(path), width, height)
    found: list[tuple[float, Shape]] = []
    for number, element in enumerate(root.findall("object"), 1):
        where, name = f"{path}, object {number}", (element.findtext("name") or "").strip()
        if not name:
            raise UserError(f"{where}: has no name")
        corners = [element.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        x0, y0, x1, y1 = points([*corners, 0, 0], where).ravel()[:4].tolist()
        found.append(((x1 - x0) * (y1 - y0), Shape(name, (box(x0 - 1, y0 - 1, x1, y1),))))
    image = (root.findtext("filename") or "").strip()
    if not image:
        raise UserError(f"{path}: has no file name of an image")
    return AnnotatedImage(image, height, width, [shape for _, shape in sorted(found, key=lambda pair: -pair[0])])


@dataclass(frozen=True)
class LabelMapFile:
    """What a ``labelmap.txt`` says; reads maps that hold its numbers, or its colors as CVAT and Datumaro write them.

    Attributes:
        names: of the values 0, 1, ..., without that of void at the end.
        colors: (red, green, blue) -> value; void is ``IGNORE``.
    """

    names: tuple[str, ...]
    colors: Mapping[tuple[int, ...], int]

    def __call__(self, path: Path) -> NDArray[np.integer]:
        """(H, W) values of a label map.

        Raises:
            UserError: it is not readable, or has a color without a name.
        """
        stored = read_stored(path)
        if stored.ndim == 2:
            return stored
        found, places = np.unique(stored.reshape(-1, 3), axis=0, return_inverse=True)
        if other := [color for color in map(tuple, found.tolist()) if color not in self.colors]:
            raise UserError(f"{path}: has the color {other[0]}, which {LABELMAP} does not name")
        values = np.array([self.colors[color] for color in map(tuple, found.tolist())], np.int32)
        return values[places.reshape(stored.shape[:2])]


def read_labelmap(path: Path) -> LabelMapFile:
    """A ``labelmap.txt``: lines "name:red,green,blue:parts:actions" in the order of values.

    Raises:
        UserError: it is not readable, or a line has no name.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    fields = [[*line.rsplit(":", 3), "", ""][:2] for line in lines if line and not line.startswith("#")]
    names, colors = [name.strip() for name, _ in fields], [color.split(",") for _, color in fields]
    void = names[-1:] == [IGNORED]
    if len(names) == void or not all(names):
        raise UserError(f"{path}: names no classes; write a line like 'cat:128,0,0::' for each")
    values = [*range(len(names) - void), *([IGNORE] if void else [])]
    known = {
        tuple(map(int, color)): value
        for color, value in zip(colors, values, strict=True)
        if len(color) == 3 and all(each.strip().isdecimal() for each in color)
    }
    return LabelMapFile(tuple(names[: len(names) - void]), known)
