"""CVAT for images 1.1: one XML file of a task; polygons, boxes, ellipses and masks by their z-order.

A mask's ``rle`` holds the lengths of runs of 0, 1, 0, ... within its box, row by row. Polylines, points, cuboids,
skeletons and tags have no area. CVAT for video (``track``) is refused.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from clips4.annotations.shapes import AnnotatedImage, Shape, box, points, read_xml, whole
from clips4.errors import UserError
from clips4.utils.image_file import check_pixels


def read_cvat(path: Path) -> list[AnnotatedImage] | None:
    """The images of a file; None if it is an XML file of something else.

    Raises:
        UserError: damaged XML, one with declarations, CVAT for video, or a shape that is not understood.
    """
    root = read_xml(path)
    if root.tag != "annotations":
        return None
    if root.find("track") is not None:
        raise UserError(f"{path}: is CVAT for video; export the task as 'CVAT for images 1.1'")
    return [_image(element, str(path)) for element in root.findall("image")]


def _image(element: ElementTree.Element, where: str) -> AnnotatedImage:
    name = element.get("name", "")
    where = f"{where}, image {name!r}"
    height, width = (whole(element.get(side), where, side, 1) for side in ("height", "width"))
    check_pixels(where, width, height)
    drawn: list[tuple[int, Shape]] = []
    left_out = 0
    for child in element:
        shape = _shape(child, where, height * width)
        if shape is None:
            left_out += 1
        else:
            drawn.append((whole(child.get("z_order", 0), where, "z_order", -(2**31)), shape))
    shapes = [shape for _, shape in sorted(drawn, key=lambda pair: pair[0])]  # stable: equal ones by their order
    return AnnotatedImage(name, height, width, shapes, left_out)


def _shape(element: ElementTree.Element, where: str, pixels: int) -> Shape | None:
    name = element.get("label", "").strip()

    def numbers(*keys: str) -> list[float]:
        return points([*(element.get(key) for key in keys), 0, 0], where).ravel()[:4].tolist()

    if element.tag == "polygon":
        pairs = [pair.split(",") for pair in element.get("points", "").split(";")]
        return Shape(name, (points([value for pair in pairs for value in pair], where),))
    if element.tag == "box":
        x0, y0, x1, y1 = numbers("xtl", "ytl", "xbr", "ybr")
        return Shape(name, (box(x0, y0, x1, y1),))
    if element.tag == "ellipse":
        x, y, radius_x, radius_y = numbers("cx", "cy", "rx", "ry")
        return Shape(name, ellipse=(x, y, radius_x, radius_y))
    if element.tag != "mask":
        return None
    left, top, width, height = (
        whole(element.get(key), where, f"{key} of a mask", least)
        for key, least in (("left", -(2**31)), ("top", -(2**31)), ("width", 1), ("height", 1))
    )
    runs = [whole(run, where, "a run of a mask") for run in element.get("rle", "").split(",")]
    if width * height > pixels or sum(runs) > width * height:
        raise UserError(f"{where}: a mask with more pixels than its box or the image")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask = np.zeros(width * height, bool)
    mask[: len(values)] = values
    return Shape(name, mask=mask.reshape(height, width), top=top, left=left)
