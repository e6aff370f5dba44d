"""The unknown classes that training discovered, as they occur in images: how much, where, and possible names."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from clips4.data.image_folder import SkippedImage, reason_to_skip
from clips4.errors import UserError
from clips4.inference.classifier import Classes
from clips4.inference.jobs.pipeline import process_images
from clips4.inference.parts import Segment
from clips4.inference.result import Segmentation
from clips4.inference.unknown.name_suggestion import Suggestion, suggest_names
from clips4.outputs.labeled_image import Area
from clips4.utils.image_input import ImageInput, as_rgb, input_name
from clips4.utils.images import RGB, blend, reduce_to
from clips4.utils.progress import ProgressReporter, counted
from clips4.utils.text import plural

if TYPE_CHECKING:
    from clips4.inference.segmenter import Segmenter

_MIN_SHARE = 0.01  # share of an image that an unknown class covers to count as occurring in it
_MARGIN = 0.15  # around an example's box, as a share of it
_CROP_SIDE = 256  # long side of the crops kept


@dataclass(frozen=True, eq=False)
class Example:
    """A place of an unknown class in an image.

    Attributes:
        source: the image's file, or its number among those given.
        box: (left, top, width, height) in pixels of the image.
        pixels: area of the connected part that the box surrounds.
        similarity: mean cosine of its pixels and the unknown prototype.
        crop: (h, w, 3) uint8, the box with a margin, pale outside the part; at most 256 pixels.
    """

    source: str
    box: tuple[int, int, int, int]
    pixels: int
    similarity: float
    crop: RGB = field(repr=False)


@dataclass(frozen=True, eq=False)
class UnknownClass:
    """A class that training discovered, without a name.

    Attributes:
        number: index of its prototype, 0..U-1, as in ``Segmentation.unknown_labels``.
        names: suggestions, best first.
        share: mean share of the images' pixels, in [0, 1].
        images: number of images of which it covers at least a hundredth.
        examples: largest and most similar first, at most one per image.
    """

    number: int
    names: tuple[Suggestion, ...]
    share: float
    images: int
    examples: tuple[Example, ...]


def discover(
    segmenter: "Segmenter",
    images: Sequence[ImageInput],
    names: int = 5,
    examples: int = 4,
    progress: ProgressReporter | None = None,
    skipped: list[SkippedImage] | None = None,
    classes: Classes | None = None,
) -> list[UnknownClass]:
    """Segment images and collect the unknown classes in them; memory holds a few images at a time.

    Args:
        segmenter: of a run with unknown prototypes.
        images: see ``utils.image_input.as_rgb``.
        names: suggestions per class.
        examples: crops per class.
        progress: advances by image.
        skipped: unreadable images are added here; without it the first one is an error.
        classes: the known class names; those of the run by default.

    Returns:
        All U classes, largest share first.

    Raises:
        UserError: the run has no unknown prototypes, or an image (with ``skipped``: every image) cannot be read.
    """
    prototypes = segmenter.prototypes
    if prototypes is None or not len(prototypes.unknown):
        raise UserError("no unknown prototypes: give a run that was trained with prototypes.unknown above 0")
    count = len(prototypes.unknown)
    shares, seen, count_read = np.zeros(count), np.zeros(count, int), 0
    best: list[list[tuple[float, int, Example]]] = [[] for _ in range(count)]
    query = segmenter.query(classes)

    def predict(images: list[RGB]) -> Iterator[Segmentation]:
        return (segmenter.predict(encoded, query) for encoded in segmenter.encode_images(images, keep=False))

    def find(number: int, result: Segmentation) -> tuple[list[Area], list[tuple[int, float, Example]]]:
        name = input_name(images[number], number)
        parts = [(unknown, score, example(result, part, name)) for unknown, score, part in _best_parts(result)]
        return result.unknown_areas(), parts

    steps = process_images(range(len(images)), lambda number: as_rgb(images[number]), predict, find, segmenter.batch)
    for number, future in counted(progress, "finding unknown classes", steps, len(images)):
        try:
            areas, parts = cast(tuple[list[Area], list[tuple[int, float, Example]]], future.result())
        except Exception as error:
            if skipped is None:
                raise
            skipped.append(SkippedImage(Path(input_name(images[number], number)), reason_to_skip(error)))
            continue
        count_read += 1
        for area in areas:
            shares[area.label] += area.share
            seen[area.label] += area.share >= _MIN_SHARE
        for unknown, score, shown in parts:
            heapq.heappush(best[unknown], (score, -number, shown))
            if len(best[unknown]) > examples:
                heapq.heappop(best[unknown])
    if not count_read and skipped:
        raise UserError(f"none of {plural(len(images), 'image')} could be read; the first: {skipped[0].reason}")
    suggestions = suggest_names(segmenter.classifier, prototypes, names)
    order = np.argsort(-shares, kind="stable").tolist()
    return [
        UnknownClass(
            unknown,
            tuple(suggestions[unknown]),
            float(shares[unknown] / max(1, count_read)),
            int(seen[unknown]),
            tuple(entry[2] for entry in sorted(best[unknown], key=lambda entry: entry[:2], reverse=True)),
        )
        for unknown in order
    ]


def _best_parts(result: Segmentation) -> Iterator[tuple[int, float, Segment]]:
    """The part that shows each unknown class of an image best: large and similar, with no bonus above a quarter."""
    best: dict[int, tuple[float, Segment]] = {}
    for segment in result.segments:
        if segment.unknown is None:
            continue
        score = max(segment.score, 0.0) * float(np.sqrt(min(segment.pixels / result.labels.size, 0.25)))
        if segment.unknown not in best or score > best[segment.unknown][0]:
            best[segment.unknown] = score, segment
    for unknown, (score, segment) in best.items():
        yield unknown, score, segment


def example(result: Segmentation, segment: Segment, source: str) -> Example:
    """A connected part of an image, cropped with a margin; pixels outside it are pale."""
    left, top, width, height = segment.box
    margin = round(_MARGIN * max(width, height))
    rows = slice(max(0, top - margin), min(result.labels.shape[0], top + height + margin))
    columns = slice(max(0, left - margin), min(result.labels.shape[1], left + width + margin))
    window = result.image[rows, columns]
    own = np.zeros(result.labels.shape, bool)
    own[top : top + height, left : left + width] = segment.mask
    pale = blend(window, np.full(window.shape, 255, np.uint8), 0.6)
    crop = np.where(own[rows, columns][..., None], window, pale)
    return Example(source, segment.box, segment.pixels, segment.score, reduce_to(crop, _CROP_SIDE))
