"""The unknown classes that training discovered, as they occur in pictures: how much, where, and what they may be."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clips4.data.image_folder import SkippedImage
from clips4.errors import UserError
from clips4.inference.classifier import Classes
from clips4.inference.name_suggestion import Suggestion, suggest_names
from clips4.inference.result import Segment, Segmentation
from clips4.utils.image_input import ImageInput, input_name
from clips4.utils.images import RGB, blend, reduce_to
from clips4.utils.progress import NoProgress, ProgressReporter

if TYPE_CHECKING:
    from clips4.inference.segmenter import Segmenter

_SEEN = 0.01  # share of a picture from which on an unknown class counts as occurring in it
_MARGIN = 0.15  # of an example's box, shown around it
_CROP_SIDE = 256  # long side of the crops kept


@dataclass(frozen=True, eq=False)
class Example:
    """Where an unknown class is in a picture.

    Attributes:
        source: the picture's file, or its number among those given.
        box: (left, top, width, height) in pixels of the picture.
        pixels: area of the connected part that the box surrounds.
        similarity: mean cosine of its pixels and the unknown prototype.
        crop: (h, w, 3) uint8, the box with a margin, what does not belong to the part pale; 256 pixels at most.
    """

    source: str
    box: tuple[int, int, int, int]
    pixels: int
    similarity: float
    crop: RGB


@dataclass(frozen=True, eq=False)
class UnknownClass:
    """A class that training discovered and nobody named.

    Attributes:
        number: its place among the unknown prototypes, 0..U-1 (``Segmentation.unknown_labels`` counts the same way).
        names: suggestions, best first.
        share: mean share of the pictures' pixels.
        images: in how many it covers at least a hundredth.
        examples: largest and surest first, at most one of each picture.
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
    """Segment pictures and gather what is unknown in them; one picture is held at a time.

    Args:
        segmenter: of a run with unknown prototypes.
        images: see ``pictures.as_rgb``.
        names: suggestions for each class.
        examples: crops of each class.
        progress: is told of each picture.
        skipped: unreadable pictures are put here; without it the first one is an error.
        classes: what is asked for beside the unknown; the run's own classes by default.

    Returns:
        All U classes, those that cover most first.

    Raises:
        UserError: nothing can be unknown to this segmenter, or a picture (or, with ``skipped``, every one) cannot be
            read.
    """
    prototypes, progress = segmenter.prototypes, progress or NoProgress()
    if prototypes is None or not len(prototypes.unknown):
        raise UserError("nothing is unknown here: give a run that was trained with prototypes.unknown above 0")
    count = len(prototypes.unknown)
    shares, seen, read = np.zeros(count), np.zeros(count, int), 0
    best: list[list[tuple[float, int, Example]]] = [[] for _ in range(count)]
    query = segmenter.query(classes)
    progress.stage("looking for the unknown", len(images))
    for number, image in enumerate(images):
        progress.advance({})
        try:
            result = segmenter.answer(segmenter.read(image), query)
        except UserError as error:
            if skipped is None:
                raise
            skipped.append(SkippedImage(Path(input_name(image, number)), str(error)))
            continue
        read += 1
        for area in result.unknown_areas():
            shares[area.label] += area.share
            seen[area.label] += area.share >= _SEEN
        for unknown, score, segment in _finest(result):
            entry = (score, -number, example(result, segment, input_name(image, number)))
            heapq.heappush(best[unknown], entry)
            if len(best[unknown]) > examples:
                heapq.heappop(best[unknown])
    if not read and skipped:
        raise UserError(f"none of {len(images)} pictures could be read; the first: {skipped[0].reason}")
    suggestions = suggest_names(segmenter.classifier, prototypes, names)
    order = np.argsort(-shares, kind="stable").tolist()
    return [
        UnknownClass(
            unknown,
            tuple(suggestions[unknown]),
            float(shares[unknown] / max(1, read)),
            int(seen[unknown]),
            tuple(entry[2] for entry in sorted(best[unknown], key=lambda entry: entry[:2], reverse=True)),
        )
        for unknown in order
    ]


def _finest(result: Segmentation) -> Iterator[tuple[int, float, Segment]]:
    """Of each unknown class in a picture the part that shows it best: large, sure, and not the whole picture."""
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
    """A connected part of a picture, cut out with a margin; what does not belong to it is pale."""
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
