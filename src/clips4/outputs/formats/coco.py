"""COCO's two formats: instances (JSON with run-length encoded masks) and panoptic (JSON with PNGs of segment ids).

Semantic segmentation does not separate two objects of one class that touch. So an annotation of the instance format is
a connected part of a class, and a segment of the panoptic format is a whole class, ``isthing`` 0. Category ids are
indices of the classes from 1 on (many readers take 0 for "none"); unknown pixels have no annotation, and id 0 ("void")
in panoptic PNGs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clips4 import __version__
from clips4.outputs.class_colors import class_colors
from clips4.outputs.labeled_image import MIN_SHARE, LabeledImage, connected_parts
from clips4.outputs.polygons import TOLERANCE, polygon_of
from clips4.outputs.rle import decode, encode
from clips4.utils.images import encode_png


def annotations(result: LabeledImage, min_share: float = MIN_SHARE) -> list[dict[str, Any]]:
    """Instance annotations of one image, without ``id`` and ``image_id``; ``score`` is the mean cosine."""
    found = []
    for part in connected_parts(result.labels, min_share * result.labels.size)[1]:
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


def as_polygons(annotation: Mapping[str, Any], tolerance: float = TOLERANCE) -> dict[str, Any]:
    """An annotation with a polygon in place of its mask; holes are joined to the outline by a cut."""
    left, top, width, height = annotation["bbox"]
    mask = decode(annotation["segmentation"])[top : top + height, left : left + width]
    points = polygon_of(mask, tolerance) + np.array([left, top])
    return {**annotation, "segmentation": [points.round(2).ravel().tolist()]}


def categories(names: Sequence[str]) -> list[dict[str, Any]]:
    """COCO's list of categories; ``color`` and ``isthing`` are for readers of the panoptic format."""
    colors = class_colors(names).tolist()
    return [
        {"id": index + 1, "name": name, "supercategory": "", "isthing": 0, "color": colors[index]}
        for index, name in enumerate(names)
    ]


def info() -> dict[str, str]:
    """COCO's ``info``."""
    return {"description": f"segmented by clips4 {__version__}; ids are places of the asked classes from 1 on"}


def coco_document(
    results: Sequence[LabeledImage], sources: Sequence[str], min_share: float = MIN_SHARE
) -> dict[str, Any]:
    """COCO's instance format as one document in memory; ``clips4 segment`` writes that of a folder image by image.

    Args:
        results: all of the same classes.
        sources: their ``file_name``s.
        min_share: connected parts of a smaller share of the image are left out.

    Raises:
        ValueError: results of different classes, or another number of sources.
    """
    if len({result.names for result in results}) > 1:
        raise ValueError("results have different classes; segment all images by the same ones")
    document = empty_document(results[0].names if results else ())
    for result, source in zip(results, sources, strict=True):
        add_image(document, result, source, min_share)
    return document


def empty_document(names: Sequence[str]) -> dict[str, Any]:
    """A document of these classes without images; ``add_image`` adds them."""
    return {"info": info(), "licenses": [], "images": [], "annotations": [], "categories": categories(names)}


def add_image(document: dict[str, Any], result: LabeledImage, source: str, min_share: float = MIN_SHARE) -> None:
    """Add an image and its annotations to a document of the same classes, in place; see ``coco_document``."""
    height, width = result.labels.shape
    images, found = document["images"], document["annotations"]
    images.append({"id": len(images) + 1, "file_name": source, "width": width, "height": height})
    for annotation in annotations(result, min_share):
        found.append({"id": len(found) + 1, "image_id": len(images), **annotation})


def panoptic_png(labels: NDArray[np.integer]) -> bytes:
    """PNG whose pixels hold segment ids as R + 256 G + 65536 B; a segment is a class, its id that of the category."""
    ids = np.where(labels >= 0, labels.astype(np.int32) + 1, 0)
    return encode_png(np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8))


def segments_info(labels: NDArray[np.integer]) -> list[dict[str, Any]]:
    """The panoptic format's list of an image's segments."""
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
