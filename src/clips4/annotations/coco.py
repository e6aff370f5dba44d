"""COCO's instance JSON: polygons, or run-length encoded masks as text or as counts; crowds belong to their class."""

from pathlib import Path
from typing import Any

from clips4.annotations.shapes import AnnotatedImage, Shape, points, read_document, whole
from clips4.errors import UserError
from clips4.outputs import rle
from clips4.utils.image_file import check_pixels


def is_coco(document: Any) -> bool:
    """Whether a JSON document is COCO's instance format."""
    return isinstance(document, dict) and all(
        isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
    )


def read_coco(path: Path) -> list[AnnotatedImage] | None:
    """The images of a file; None if it is a JSON file of something else.

    Raises:
        UserError: an annotation that is not understood, or names an image or category that there is not.
    """
    document = read_document(path)
    if not is_coco(document):
        return None
    images: dict[Any, AnnotatedImage] = {}
    names: dict[Any, str] = {}
    try:
        for each in document["categories"]:
            names[each["id"]] = str(each["name"]).strip()
        for each in document["images"]:
            where = f"{path}, image {each['id']}"
            height, width = (whole(each[side], where, side, 1) for side in ("height", "width"))
            check_pixels(where, width, height)
            images[each["id"]] = AnnotatedImage(str(each["file_name"]).replace("\\", "/"), height, width)
        for number, each in enumerate(document["annotations"], 1):
            where, image = f"{path}, annotation {number}", images[each["image_id"]]
            image.shapes.append(_shape(names[each["category_id"]], each["segmentation"], image, where))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: is no whole COCO file of instances: {type(error).__name__} {str(error)[:60]}")
    return list(images.values())


def _shape(name: str, segmentation: Any, image: AnnotatedImage, where: str) -> Shape:
    if isinstance(segmentation, list):
        return Shape(name, tuple(points(each, where) for each in segmentation))
    size, counts = segmentation["size"], segmentation["counts"]
    if size != [image.height, image.width]:
        raise UserError(f"{where}: a mask of size {size}, but its image has {[image.height, image.width]}")
    runs = rle.counts_of_text(counts) if isinstance(counts, str) else [whole(run, where, "a run") for run in counts]
    if sum(runs) != image.height * image.width or min(runs) < 0:
        raise UserError(f"{where}: the runs of its mask do not add up to the image's pixels")
    return Shape(name, rle={"size": size, "counts": rle.text_of(runs)})
