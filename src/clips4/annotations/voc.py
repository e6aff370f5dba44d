"""Pascal VOC's boxes: one XML file an image in ``Annotations/``; a smaller box covers a larger one.

Boxes are rougher than masks: where ``SegmentationClass/`` is beside them, that is read instead. Their pixels are
counted from 1, the last one included. Beside label maps, ``labelmap.txt`` names the values, one a line in their order
("cat:128,0,0::").
"""

from pathlib import Path

from clips4.annotations.shapes import AnnotatedImage, Shape, box, points, read_xml, whole
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


def read_labelmap(path: Path) -> list[str]:
    """The names of the values 0, 1, ... of a ``labelmap.txt``, without that of void at its end.

    Raises:
        UserError: it is not readable, or a line has no name.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    names = [line.rsplit(":", 3)[0].strip() for line in lines if line and not line.startswith("#")]
    if names[-1:] == [IGNORED]:
        names.pop()
    if not names or not all(names):
        raise UserError(f"{path}: names no classes; write a line like 'cat:128,0,0::' for each")
    return names
