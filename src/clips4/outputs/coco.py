"""COCO's two formats: instances (JSON with run-length encoded masks) and panoptic (JSON with PNGs of segment ids).

A semantic segmentation tells no two things of one class apart where they touch. So in the instance format an annotation
is a connected part of a class, and in the panoptic format a segment is a whole class, ``isthing`` 0. Category ids are
the places of the asked classes from 1 on (0 means "none" to many readers); unknown pixels have no annotation, and id 0
("void") in panoptic PNGs.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as connected

from clips4.inference.segmenter import Segmentation
from clips4.outputs.rle import encode
from clips4.utils.images import encode_png, palette

MIN_SHARE = 0.0002  # connected parts of less than this share of the picture are left out: 61 pixels of 640 x 480


class Part(NamedTuple):
    """A connected part (8 neighbours) of a class: its mask within the box that begins at ``top``, ``left``."""

    label: int
    top: int
    left: int
    mask: NDArray[np.bool_]


def connected_parts(labels: NDArray[np.integer], min_pixels: float) -> Iterator[Part]:
    """The connected parts of all classes, by class and then from top to bottom; the unknown has none."""
    numbered = connected(labels, connectivity=2, background=-1)
    sizes = np.bincount(numbered.ravel())
    boxes: list[Any] = ndimage.find_objects(numbered)
    found = []
    for number, (rows, columns) in enumerate(boxes, 1):
        if sizes[number] >= min_pixels:
            mask = numbered[rows, columns] == number
            label = int(labels[rows, columns][mask][0])
            found.append(Part(label, rows.start, columns.start, mask))
    yield from sorted(found, key=lambda part: (part.label, part.top, part.left))


def annotations(result: Segmentation, min_share: float = MIN_SHARE) -> list[dict[str, Any]]:
    """Instance annotations of one picture, without ``id`` and ``image_id``; ``score`` is the mean cosine."""
    found = []
    for part in connected_parts(result.labels, min_share * result.labels.size):
        height, width = part.mask.shape
        window = result.similarity[part.top : part.top + height, part.left : part.left + width]
        found.append(
            {
                "category_id": part.label + 1,
                "segmentation": encode(part.mask, result.labels.shape, (part.top, part.left)),
                "area": int(part.mask.sum()),
                "bbox": [part.left, part.top, width, height],
                "iscrowd": 0,
                "score": round(float(window[part.mask].mean()), 4),
            }
        )
    return found


def categories(names: Sequence[str]) -> list[dict[str, Any]]:
    """COCO's list of categories; ``color`` and ``isthing`` are for the panoptic format's readers."""
    colors = palette(len(names)).tolist()
    return [
        {"id": index + 1, "name": name, "supercategory": "", "isthing": 0, "color": colors[index]}
        for index, name in enumerate(names)
    ]


def info() -> dict[str, str]:
    """COCO's ``info``."""
    from clips4 import __version__

    return {"description": f"segmented by clips4 {__version__}; ids are places of the asked classes from 1 on"}


def coco_document(
    results: Sequence[Segmentation], sources: Sequence[str], min_share: float = MIN_SHARE
) -> dict[str, Any]:
    """COCO's instance format of some results, as one document; ``clips4 segment`` writes that of a folder piece by
    piece, see ``folder_files``.

    Args:
        results: all of the same asked classes.
        sources: their ``file_name``s.
        min_share: connected parts of a lesser share of the picture are left out.

    Raises:
        ValueError: results of different classes, or not as many sources.
    """
    if len({result.names for result in results}) > 1:
        raise ValueError("results of different classes make no one document; ask all pictures for the same")
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, (result, source) in enumerate(zip(results, sources, strict=True), 1):
        height, width = result.labels.shape
        images.append({"id": number, "file_name": source, "width": width, "height": height})
        for annotation in annotations(result, min_share):
            found.append({"id": len(found) + 1, "image_id": number, **annotation})
    names = results[0].names if results else ()
    return {"info": info(), "licenses": [], "images": images, "annotations": found, "categories": categories(names)}


def panoptic_png(labels: NDArray[np.integer]) -> bytes:
    """PNG whose pixels hold segment ids as R + 256 G + 65536 B; a segment is a class, its id that of the category."""
    ids = np.where(labels >= 0, labels.astype(np.int32) + 1, 0)
    return encode_png(np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8))


def segments_info(labels: NDArray[np.integer]) -> list[dict[str, Any]]:
    """The panoptic format's list of a picture's segments."""
    found: list[dict[str, Any]] = []
    boxes: list[Any] = ndimage.find_objects(np.where(labels >= 0, labels.astype(np.int32) + 1, 0))
    for index, box in enumerate(boxes, 1):
        if box is None:
            continue
        rows, columns = box
        found.append(
            {
                "id": index,
                "category_id": index,
                "area": int((labels[box] == index - 1).sum()),
                "bbox": [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start],
                "iscrowd": 0,
            }
        )
    return found
