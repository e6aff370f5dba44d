"""Images with label maps, for scoring; training never reads the labels."""

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.data.class_names import ClassList, data_lines
from clips4.data.image_folder import find_images
from clips4.data.label_maps import IGNORE, apply_table, check_depth, ignore_value, read_labels
from clips4.data.pairs import by_name, files_in, match
from clips4.errors import UserError
from clips4.utils.image_file import image_orientation, image_size
from clips4.utils.images import RGB, load_rgb, turned
from clips4.utils.parallel import map_ahead

LabelReader = Callable[[Path], NDArray[np.integer]]


@dataclass(frozen=True)
class LabeledFolder:
    """Images, their label maps, and what the label values mean.

    Attributes:
        images: (N,) images that have a label map.
        masks: (N,) their label maps.
        classes: the K scored classes.
        table: label value -> 0..K-1, or ``ignore_value(K)``; a value outside it is an error.
        background: whether class 0 is the background (a protocol may then use a threshold).
        read: reads a label map as it is stored.
    """

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    classes: ClassList
    table: NDArray[np.integer]
    background: bool = False
    read: LabelReader = read_labels

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[tuple[Path, RGB, NDArray[np.integer]]]:
        """Path, image (H, W, 3) and truth (H, W) of 0..K-1 or ``ignore_value(K)``; threads read ahead."""

        def read(index: int) -> tuple[Path, RGB, NDArray[np.integer]]:
            path = self.images[index]
            image, truth = load_rgb(path), self.truth(index)
            if truth.shape != image.shape[:2]:
                raise UserError(f"{self.masks[index]}: {truth.shape} is not the size {image.shape[:2]} of {path}")
            return path, image, truth

        for _, labeled in map_ahead(read, range(len(self))):
            yield labeled.result()

    def truth(self, index: int) -> NDArray[np.integer]:
        """(H, W) 0..K-1 or ``ignore_value(K)`` of one image.

        Raises:
            UserError: the label map has a value that the set does not have.
        """
        values = self.read(self.masks[index])
        check_depth(values, len(self.classes), self.masks[index])
        return apply_table(self.table, as_displayed(values, self.images[index]), self.masks[index])

    def warn_of_orientation(self) -> None:
        """Warn of images that EXIF turns, since their label maps may belong to the stored pixels."""
        turned_images = []
        for path in self.images:
            with suppress(UserError):  # unreadable ones are reported where they are read
                if image_orientation(path, str(path)) != 1:
                    turned_images.append(path)
        if turned_images:
            warnings.warn(
                f"EXIF turns {len(turned_images)} of {len(self.images)} images, the first {turned_images[0]}: a label "
                "map of the stored pixels' size is turned; one that fits both ways is taken as displayed; check it",
                stacklevel=2,
            )


def as_displayed(values: NDArray[np.integer], image: Path) -> NDArray[np.integer]:
    """(H, W) labels turned as EXIF turns their image, where they have the size of its stored pixels alone."""
    turn = image_orientation(image, str(image))
    stored = image_size(image, str(image)) if turn >= 5 else None  # (height, width) of the stored pixels
    return turned(values, turn) if values.shape == stored and stored[0] != stored[1] else values


def load_label_table(name: str, classes: ClassList, size: int = 256) -> NDArray[np.uint8]:
    """The table of ``assets/labels/NAME.txt`` (lines ``value name``) for these classes; other values are ignored.

    Several values may belong to one class.

    Raises:
        UserError: a class has no value.
    """
    table = np.full(size, IGNORE, np.uint8)
    known = set()
    for line in data_lines(f"labels/{name}.txt"):
        value, label = line.split(" ", 1)
        if label in classes.names:
            table[int(value)] = classes.names.index(label)
            known.add(label)
    if missing := [label for label in classes.names if label not in known]:
        raise UserError(f"labels {name}: no value for the class {missing[0]!r}")
    return table


def value_table(classes: Sequence[int], ignored: Collection[int] | None = None) -> NDArray[np.integer]:
    """A label table for sets in which any other value is a mistake.

    Args:
        classes: the value of class 0, 1, ..., K-1.
        ignored: valid values that are not scored; by default ``ignore_value(K)``.

    Returns:
        (256,) uint8, or (65536,) uint16 with more than 255 classes: 0..K-1, ``ignore_value(K)``, or K for a mistake,
        which every scorer rejects.
    """
    ignore = ignore_value(len(classes))
    table: NDArray[np.integer] = np.full(ignore + 1, len(classes), np.uint8 if ignore == IGNORE else np.uint16)
    table[[ignore] if ignored is None else list(ignored)] = ignore
    table[list(classes)] = np.arange(len(classes))
    return table


Pairs = tuple[tuple[Path, ...], tuple[Path, ...]]


def pair_by_name(images: Path, masks: Path, suffix: str = ".png") -> Pairs:
    """Each label map of a folder with the image of the same name in another folder, see ``pairs.match``.

    Args:
        images, masks: the folders.
        suffix: of the label maps.

    Raises:
        UserError: there is no label map, one has no image, or it is not certain which.
    """
    found = files_in(masks, suffix)
    if not found:
        raise UserError(f"{masks}: no label map (*{suffix}); give the folder that the set's archive unpacks to")
    names = [path.stem for path in found]
    return tuple(match(names, by_name(find_images(images), images), images, ", the image of a label map")), tuple(found)
