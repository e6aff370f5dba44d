"""Drawn shapes with class names, which all annotation formats come down to, and the label map that they make."""

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.draw import ellipse, polygon

from clips4.data.class_names import folded
from clips4.data.label_maps import ignore_value
from clips4.errors import UserError
from clips4.outputs.rle import Rle, decode
from clips4.utils.image_file import check_pixels
from clips4.utils.text import read_text

Points = NDArray[np.float64]  # (N, 2) x, y in pixels; the image's corner is (0, 0), the first pixel's center (0.5, 0.5)


@dataclass(frozen=True)
class Shape:
    """An area with a class.

    Attributes:
        name: of its class.
        polygons: outlines, each filled.
        ellipse: center x, y and radii x, y; None for other shapes.
        rle: runs of a mask of the whole image; decoded where it is drawn, since a set may have many.
        mask: (h, w) of a box whose first pixel is in row ``top`` and column ``left``; None for other shapes.
    """

    name: str
    polygons: tuple[Points, ...] = ()
    ellipse: tuple[float, float, float, float] | None = None
    rle: Rle | None = None
    mask: NDArray[np.bool_] | None = None
    top: int = 0
    left: int = 0


@dataclass(frozen=True)
class AnnotatedImage:
    """The shapes of an image.

    Attributes:
        image: its file's name or path, as the format has it.
        height, width: in pixels.
        shapes: in the order in which they are drawn.
        left_out: how many have no area: points, lines.
    """

    image: str
    height: int
    width: int
    shapes: list[Shape] = field(default_factory=list)
    left_out: int = 0


def read_document(path: Path) -> Any:
    """Any value of a JSON file.

    Raises:
        UserError: it is not readable as text or as JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})")


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        UserError: it is damaged, or declares a document type, as no annotation file does.
    """
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{path}: declares a document type, which annotation files do not")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path}: not readable as XML ({error})")


def label_map(annotated: AnnotatedImage, names: Sequence[str]) -> NDArray[np.integer]:
    """(H, W) places of the shapes' names among ``names``; ``ignore_value(K)`` where there is no shape, or another name.

    A pixel belongs to a shape if its center lies within; a later shape covers an earlier one. A class named
    "background" has the pixels of no shape.

    Raises:
        UserError: the image is larger than the limit.
    """
    check_pixels(annotated.image, annotated.width, annotated.height)
    place = {folded(name): index for index, name in enumerate(names)}
    ignored = ignore_value(len(names))
    kind = np.uint8 if ignored < 256 else np.uint16
    labels = np.full((annotated.height, annotated.width), place.get("background", ignored), kind)
    for shape in annotated.shapes:
        value = place.get(folded(shape.name), ignored)
        for points in shape.polygons:
            labels[polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, labels.shape)] = value
        if shape.ellipse is not None:
            x, y, radius_x, radius_y = shape.ellipse
            labels[ellipse(y - 0.5, x - 0.5, radius_y, radius_x, labels.shape)] = value
        if shape.rle is not None:
            labels[decode(shape.rle)] = value
        if shape.mask is not None:
            top, left = max(shape.top, 0), max(shape.left, 0)
            inside = shape.mask[top - shape.top :, left - shape.left :]
            part = labels[top : top + inside.shape[0], left : left + inside.shape[1]]
            part[inside[: part.shape[0], : part.shape[1]]] = value
    return labels


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """The polygon of a box."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def points(numbers: Iterable[Any], where: str) -> Points:
    """(N, 2) points of x, y, x, y, ...

    Raises:
        UserError: no numbers, or not at least three pairs of finite ones.
    """
    try:
        values = np.array([float(number) for number in numbers])
    except (TypeError, ValueError):
        raise UserError(f"{where}: the points of a shape are no numbers")
    if len(values) < 6 or len(values) % 2 or not np.isfinite(values).all():
        raise UserError(f"{where}: a polygon of {len(values) / 2:g} points; it needs three or more, all finite")
    return values.reshape(-1, 2)


def whole(value: Any, where: str, what: str, least: int = 0) -> int:
    """A whole number that a format gives as number or text.

    Raises:
        UserError: it is none, or below ``least``.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number == int(number) and number >= least):
        raise UserError(f"{where}: {what} is {str(value)[:40]!r}, no whole number of at least {least}")
    return int(number)
