"""An image with a class for every pixel, as arrays and names: what writers take; and the connected parts of labels."""

import difflib
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as number_parts

from clips4.errors import UserError, UserTypeError
from clips4.utils.images import RGB, UNKNOWN_NAME
from clips4.utils.text import listing, percent

UNKNOWN_LABEL = -1
MIN_SHARE = 0.0002  # formats leave out parts of less than this share of the image: 61 pixels of 640 x 480


class Area(NamedTuple):
    """How much of an image a class covers; ``label`` is ``UNKNOWN_LABEL`` for unknown pixels, ``share`` in [0, 1]."""

    name: str
    label: int
    pixels: int
    share: float


@dataclass(frozen=True, eq=False, repr=False)
class LabeledImage:
    """An image and the class of every pixel; equal to another one with the same values.

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

    def __repr__(self) -> str:
        height, width = self.labels.shape
        found = listing([f"{area.name} {percent(area.share)}" for area in self.areas()])
        return f"{type(self).__name__}({width} x {height} pixels: {found})"

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Where a class is.

        Args:
            name: of a class, in any case; "unknown" for all unknown pixels, "unknown 2" for those of one discovered
                class.

        Returns:
            (H, W), True where the class is.

        Raises:
            UserError: no such class.
            UserTypeError: not a name.

        Example:
            >>> mask = segmenter.segment("photo.jpg").mask("cat")
            >>> mask.shape, mask.dtype
            ((72, 96), dtype('bool'))
        """
        if not isinstance(name, str):
            raise UserTypeError(f"mask takes the name of a class, got {type(name).__name__}")
        found = [index for index, each in enumerate(self.names) if each.casefold() == name.casefold()]
        if found:
            return self.labels == found[0]
        word, _, number = name.casefold().partition(" ")
        if word == UNKNOWN_NAME and not number:
            return self.labels == UNKNOWN_LABEL
        if word == UNKNOWN_NAME and number.isdecimal() and self.unknown_labels is not None:
            return self.unknown_labels == int(number) - 1
        near = difflib.get_close_matches(name, self.names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there is {listing(self.names)}"
        raise UserError(f"{name!r}: not a class of this result; {hint}")

    def areas(self) -> list[Area]:
        """How much of the image each class covers.

        Returns:
            Name, label, pixels and share in [0, 1] of the classes that occur, largest first, unknown last.

        Example:
            >>> round(sum(area.share for area in segmenter.segment("photo.jpg").areas()), 6)
            1.0
        """
        values, counts = np.unique(self.labels, return_counts=True)
        found = [
            Area(
                self.names[value] if value >= 0 else UNKNOWN_NAME, int(value), int(count), int(count) / self.labels.size
            )
            for value, count in zip(values, counts, strict=True)
        ]
        return sorted(found, key=lambda area: (area.label == UNKNOWN_LABEL, -area.pixels))

    @property
    def unknown_share(self) -> float:
        """Share of the image that is unknown, in [0, 1]."""
        return float((self.labels == UNKNOWN_LABEL).mean())

    def unknown_areas(self) -> list[Area]:
        """How much of the image each discovered unknown class covers.

        Returns:
            Those that occur, largest first; ``label`` is the number of the class, 0..U-1, and its name counts from 1.

        Example:
            >>> segmenter.segment("photo.jpg", unknown=False).unknown_areas()
            []
        """
        if self.unknown_labels is None:
            return []
        values, counts = np.unique(self.unknown_labels[self.unknown_labels >= 0], return_counts=True)
        found = [
            Area(f"{UNKNOWN_NAME} {value}", int(value), int(count), int(count) / self.labels.size)
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


def same_fields(a: Any, b: Any) -> bool:
    """Whether two dataclasses have the same class and equal values in all fields that are compared.

    Arrays and tensors are equal if they have the same shape and the same values; NaN equals NaN.
    """
    if type(a) is not type(b):
        return False
    return all(_same(getattr(a, each.name), getattr(b, each.name)) for each in fields(a) if each.compare)


def _same(a: Any, b: Any) -> bool:
    if hasattr(a, "__array__") and hasattr(b, "__array__"):
        left, right = (np.asarray(each.detach().cpu() if hasattr(each, "detach") else each) for each in (a, b))
        return np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    return bool(type(a) is type(b) and a == b)
