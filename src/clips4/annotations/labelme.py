"""labelme's JSON: one file an image, beside it; shapes with labels, drawn in their order.

Polygons, rectangles, circles (center and a point on the rim) and masks (a PNG in base64 within a box) have an area;
points and lines have none. The embedded image is not read.
"""

import base64
import binascii
import math
from pathlib import Path
from typing import Any

import numpy as np

from clips4.annotations.shapes import AnnotatedImage, Shape, box, points, read_document, whole
from clips4.errors import UserError
from clips4.utils.image_file import open_image
from clips4.utils.text import plural


def is_labelme(document: Any) -> bool:
    """Whether a JSON document is one of labelme's."""
    return isinstance(document, dict) and isinstance(document.get("shapes"), list) and "imagePath" in document


def read_labelme(path: Path) -> AnnotatedImage | None:
    """The shapes of one file; None if it is a JSON file of something else.

    Raises:
        UserError: a shape that is not understood.
    """
    document = read_document(path)
    if not is_labelme(document):
        return None
    height, width = (whole(document.get(f"image{side}"), str(path), f"image{side}", 1) for side in ("Height", "Width"))
    found = AnnotatedImage(str(document["imagePath"]).replace("\\", "/"), height, width)
    left_out = 0
    for number, values in enumerate(document["shapes"], 1):
        where = f"{path}, shape {number}"
        if not isinstance(values, dict) or not isinstance(values.get("label"), str):
            raise UserError(f"{where}: has no label")
        shape = _shape(values, where)
        if shape is None:
            left_out += 1
        else:
            found.shapes.append(shape)
    return AnnotatedImage(found.image, height, width, found.shapes, left_out)


def _shape(values: dict[str, Any], where: str) -> Shape | None:
    name, kind, given = values["label"].strip(), values.get("shape_type") or "polygon", values.get("points")
    if kind in ("point", "points", "line", "linestrip"):
        return None
    if not isinstance(given, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in given):
        raise UserError(f"{where}: its points are no list of pairs")
    if kind == "polygon":
        return Shape(name, (points([value for pair in given for value in pair], where),))
    if kind not in ("rectangle", "circle", "mask") or len(given) != 2:
        raise UserError(f"{where}: {kind!r} of {plural(len(given), 'point')} is not understood; draw a polygon")
    (x0, y0), (x1, y1), _ = points([*given[0], *given[1], 0, 0], where).tolist()
    if kind == "rectangle":
        return Shape(name, (box(x0, y0, x1, y1),))
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        return Shape(name, ellipse=(x0, y0, radius, radius))
    try:
        data = base64.b64decode(str(values.get("mask")), validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"{where}: its mask is no PNG in base64")
    with open_image(data, where, "mask", formats=("PNG",)) as image:
        mask = np.asarray(image.convert("L")) > 0
    return Shape(name, mask=mask, left=round(x0), top=round(y0))
