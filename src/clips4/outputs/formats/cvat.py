"""CVAT for images 1.1: one XML file of a folder, a mask for each connected part, made from its COCO annotations.

A mask's ``rle`` holds the lengths of runs of 0, 1, 0, ... within its box, row by row, so that holes stay holes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from clips4.outputs import rle
from clips4.utils.text import printable


def cvat_document(images: Iterable[Mapping[str, Any]], names: Sequence[str]) -> Iterator[str]:
    """The lines of the file.

    Args:
        images: ``name``, ``width``, ``height`` and COCO ``annotations`` of each; read once, in order.
        names: (K,) of the classes.
    """
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    labels = "".join(f"<label><name>{escape(name)}</name><type>mask</type></label>" for name in names)
    yield f"  <meta><task><mode>annotation</mode><labels>{labels}</labels></task></meta>\n"
    for number, image in enumerate(images):
        size = f'width="{image["width"]}" height="{image["height"]}"'
        yield f'  <image id="{number}" name={quoteattr(printable(image["name"]))} {size}>\n'
        for annotation in image["annotations"]:
            left, top, width, height = annotation["bbox"]
            mask = rle.decode(annotation["segmentation"])[top : top + height, left : left + width]
            box = f'left="{left}" top="{top}" width="{width}" height="{height}"'
            runs = ", ".join(map(str, row_runs(mask)))
            label = quoteattr(names[annotation["category_id"] - 1])
            yield f'    <mask label={label} source="auto" occluded="0" rle="{runs}" {box} z_order="0"></mask>\n'
        yield "  </image>\n"
    yield "</annotations>\n"


def row_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of 0, 1, 0, ... of a mask (h, w), row by row.

    Example:
        >>> row_runs(np.array([[True, False], [False, True]]))
        [0, 1, 2, 1]
    """
    values = mask.ravel()
    edges = np.flatnonzero(np.diff(values)) + 1
    runs = np.diff([0, *edges, values.size]).tolist()
    return [0, *runs] if values[0] else runs
