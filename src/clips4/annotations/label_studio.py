"""Label Studio's JSON: a list of tasks, or a task a file; polygons, rectangles, ellipses, brush masks, in their order.

Of a task with several annotations the last one counts that was not cancelled; predictions do not, since nobody has
looked at them. Key points and other regions without an area are left out.
"""

import math
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np

from clips4.annotations.shapes import AnnotatedImage, Shape, points, read_document, whole
from clips4.errors import UserError
from clips4.outputs import brush_rle
from clips4.utils.image_file import check_pixels

_WITHOUT_AREA = {"keypointlabels", "vectorlabels", "videorectangle"}
_CORNERS = 64  # of an ellipse as a polygon


def is_label_studio(document: Any) -> bool:
    """Whether a JSON document is a task of Label Studio, or a list of them."""
    tasks = document if isinstance(document, list) else [document]
    return bool(tasks) and all(
        isinstance(task, dict)
        and isinstance(task.get("data"), dict)
        and any(isinstance(task.get(key), list) for key in ("annotations", "predictions"))
        for task in tasks
    )


def read_label_studio(path: Path) -> list[AnnotatedImage] | None:
    """The images of a file that somebody annotated; None if it is a JSON file of something else.

    Raises:
        UserError: a task without an image, or a region that is not understood.
    """
    document = read_document(path)
    if not is_label_studio(document):
        return None
    found = []
    for number, task in enumerate(document if isinstance(document, list) else [document], 1):
        where = f"{path}, task {number}"
        made = [
            each for each in task.get("annotations", []) if isinstance(each, dict) and not each.get("was_cancelled")
        ]
        if made:
            found.append(_image(task["data"], made[-1].get("result"), where))
    return found


def _image(data: dict[str, Any], result: Any, where: str) -> AnnotatedImage:
    address = data.get("image") or next((value for value in data.values() if isinstance(value, str)), None)
    if not isinstance(address, str) or not isinstance(result, list) or not all(isinstance(r, dict) for r in result):
        raise UserError(f"{where}: has no image, or no list of regions")
    kinds = [str(region.get("type")) for region in result]
    drawn = [(each, kind) for each, kind in zip(result, kinds, strict=True) if kind in _SHAPES]
    sizes = {
        tuple(whole(region.get(f"original_{side}"), where, f"original_{side}", 1) for side in ("height", "width"))
        for region, _ in drawn
    }
    if len(sizes) > 1:
        raise UserError(f"{where}: regions of different image sizes")
    height, width = next(iter(sizes), (1, 1))  # without a shape the image is left out
    check_pixels(where, width, height)
    try:
        shapes = [_shape(region, kind, (height, width), where) for region, kind in drawn]
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"{where}: a region is not understood ({type(error).__name__} {str(error)[:60]})")
    return AnnotatedImage(_file_of(address), height, width, shapes, sum(kind in _WITHOUT_AREA for kind in kinds))


def _file_of(address: str) -> str:
    """The path in an address: the one that local storage serves, as it is on this machine if it is there."""
    parts = urllib.parse.urlsplit(address)
    if served := urllib.parse.parse_qs(parts.query).get("d"):
        return f"/{served[0]}" if Path(f"/{served[0]}").is_file() else served[0]
    return urllib.parse.unquote(parts.path).lstrip("/")


def _shape(region: dict[str, Any], kind: str, size: tuple[int, int], where: str) -> Shape:
    value, (height, width) = region["value"], size
    name = str(value[kind][0]).strip()
    scale = np.array([width, height]) / 100
    if kind == "brushlabels":
        try:
            return Shape(name, mask=brush_rle.decode(value["rle"], size))
        except ValueError as error:
            raise UserError(f"{where}: a brush mask of {width} x {height} pixels is damaged ({error})")
    if kind == "polygonlabels":
        return Shape(name, (points([number for pair in value["points"] for number in pair], where) * scale,))
    angle = math.radians(float(value.get("rotation", 0)))
    x, y = float(value["x"]), float(value["y"])
    if kind == "rectanglelabels":  # it turns around its first corner
        around = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * [float(value["width"]), float(value["height"])]
    else:
        turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        around = np.stack([np.cos(turn), np.sin(turn)], 1) * [float(value["radiusX"]), float(value["radiusY"])]
    turned = around * scale @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return Shape(name, (points((turned + [x, y] * scale).ravel(), where),))


_SHAPES = {"polygonlabels", "rectanglelabels", "ellipselabels", "brushlabels"}
