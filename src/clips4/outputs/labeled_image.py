"""An image with a class for every pixel, as arrays and names: what writers take; and the connected parts of labels."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as number_parts

from clips4.utils.images import RGB, UNKNOWN_NAME

UNKNOWN_LABEL = -1
MIN_SHARE = 0.0002  # formats leave out parts of less than this share of the image: 61 pixels of 640 x 480


class Area(NamedTuple):
    """How much of an image a class covers; ``label`` is ``UNKNOWN_LABEL`` for unknown pixels, ``share`` in [0, 1]."""

    name: str
    label: int
    pixels: int
    share: float


@dataclass(frozen=True)
class LabeledImage:
    """An image and the class of every pixel.

    Attributes:
        image: (H, W, 3) uint8, as decoded.
        labels: (H, W) int16, index into ``names``; ``UNKNOWN_LABEL`` where an unknown prototype is nearest.
        similarity: (H, W) float32, cosine of each pixel and its class vector, in [-1, 1].
        names: (K,) class names.
        unknown_labels: (H, W) int16, the discovered unknown class of each unknown pixel, 0..U-1, and -1 elsewhere; None
            where no pixel could be unknown.
        sources: (K,) where each class vector comes from: "prototype" (a class of the run), "bank" (found among training
            segments by the name's text vector), "text" (the text vector itself) "rule" (a background
            threshold) or "examples" (labeled pixels).
    """

    image: RGB
    labels: NDArray[np.int16]
    similarity: NDArray[np.float32]
    names: tuple[str, ...]
    unknown_labels: NDArray[np.int16] | None = None
    sources: tuple[str, ...] = ()

    def areas(self) -> list[Area]:
        """Classes that occur, largest first, unknown last."""
        values, counts = np.unique(self.labels, return_counts=True)
        found = [
            Area(self.names[value] if value >= 0 else UNKNOWN_NAME, int(value), int(count), count / self.labels.size)
            for value, count in zip(values, counts, strict=True)
        ]
        return sorted(found, key=lambda area: (area.label == UNKNOWN_LABEL, -area.pixels))

    @property
    def unknown_share(self) -> float:
        """Share of the image that is unknown, in [0, 1]."""
        return float((self.labels == UNKNOWN_LABEL).mean())

    def unknown_areas(self) -> list[Area]:
        """Discovered unknown classes that occur, largest first; ``label`` is the number of the class, 0..U-1."""
        if self.unknown_labels is None:
            return []
        values, counts = np.unique(self.unknown_labels[self.unknown_labels >= 0], return_counts=True)
        found = [
            Area(f"{UNKNOWN_NAME} {value + 1}", int(value), int(count), count / self.labels.size)
            for value, count in zip(values, counts, strict=True)
        ]
        return sorted(found, key=lambda area: -area.pixels)


class Part(NamedTuple):
    """A connected part: ``number`` in the map of parts, ``label`` of its pixels, mask in the box at (top, left)."""

    number: int
    label: int
    top: int
    left: int
    mask: NDArray[np.bool_]


def connected_parts(labels: NDArray[np.integer], min_pixels: float = 0) -> tuple[NDArray[np.integer], list[Part]]:
    """The 8-connected parts of every label; -1 has none.

    Args:
        labels: (H, W), -1 or larger.
        min_pixels: smaller parts are left out of the list.

    Returns:
        (H, W) numbers of the parts, 1..S, and 0 where the label is -1; and the parts, by label, then from top to
        bottom and left to right.
    """
    numbered = number_parts(labels, connectivity=2, background=-1)
    sizes = np.bincount(numbered.ravel())
    boxes: list[Any] = ndimage.find_objects(numbered)
    parts = []
    for number, (rows, columns) in enumerate(boxes, 1):
        if sizes[number] >= min_pixels:
            mask = numbered[rows, columns] == number
            parts.append(Part(number, int(labels[rows, columns][mask][0]), rows.start, columns.start, mask))
    return numbered, sorted(parts, key=lambda part: (part.label, part.top, part.left))
