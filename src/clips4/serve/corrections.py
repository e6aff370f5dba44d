"""What users put right: segments set by hand, and segments as prototypes of a class."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch.nn.functional as F

from clips4.errors import UserError
from clips4.inference.classifier import Query
from clips4.inference.result import Segmentation
from clips4.outputs.labeled_image import UNKNOWN_LABEL
from clips4.serve.sessions import Examples, OpenImage


def examples_of(image: OpenImage, segments: Sequence[int], name: str) -> Examples:
    """Segments of an image as prototypes of a class.

    Raises:
        UserError: no such segment.
    """
    return Examples(name, image.segments.vectors[check_segments(image, segments)], image.id, tuple(segments))


def counterexamples_of(image: OpenImage, segments: Sequence[int], name: str, query: Query) -> Examples:
    """Segments that are not a class, as prototypes of the class that is nearest to them among the others.

    Raises:
        UserError: no such segment, or no other class.
    """
    vectors = image.segments.vectors[check_segments(image, segments)]
    cosines = F.normalize(vectors.sum(0), dim=0) @ query.vectors.to(vectors).T
    others = [i for i, owner in enumerate(query.owner.tolist()) if query.names[owner] != name]
    if not others:
        raise UserError(f"{name!r} is the only class; add the one that it is instead")
    nearest = query.names[int(query.owner[max(others, key=lambda i: float(cosines[i]))])]
    return Examples(nearest, vectors, image.id, tuple(segments), negative_of=name)


def edited(result: Segmentation, image: OpenImage) -> Segmentation:
    """A prediction with the segments that were set by hand; those of a class that is not among its names stay."""
    place = {name: index for index, name in enumerate(result.names)}
    edits = [each for each in image.edits if each.name is None or each.name in place]
    if not edits:
        return result
    label_of = np.full(len(image.segments.regions), UNKNOWN_LABEL - 1, np.int16)
    for edit in edits:
        label_of[list(edit.segments)] = UNKNOWN_LABEL if edit.name is None else place[edit.name]
    given = label_of[image.segments.resized(result.labels.shape)]
    is_edited = given >= UNKNOWN_LABEL
    unknown = result.unknown_labels
    return replace(
        result,
        labels=np.where(is_edited, given, result.labels),
        unknown_labels=None if unknown is None else np.where(is_edited, np.int16(-1), unknown),
    )


def check_segments(image: OpenImage, segments: Sequence[int]) -> list[int]:
    """The numbers, if the image has such segments.

    Raises:
        UserError: it has not.
    """
    count = len(image.segments.regions)
    wrong = next((number for number in segments if not 0 <= number < count), None)
    if wrong is not None:
        raise UserError(f"segment {wrong}: the image has segments 0 to {count - 1}")
    return list(dict.fromkeys(segments))


def check_pixel(image: OpenImage, x: int, y: int) -> None:
    """Refuse a pixel outside the view of an image.

    Raises:
        UserError: it is.
    """
    height, width = image.view_size
    if not (0 <= x < width and 0 <= y < height):
        raise UserError(f"pixel {x}, {y}: the view has {width} x {height} pixels")
