"""Pictures with label maps, for scoring; training never reads the labels."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.data.class_names import ClassList, data_lines
from clips4.data.label_maps import IGNORE, apply_table, read_labels
from clips4.errors import UserError
from clips4.utils.images import RGB, find_images, load_rgb

LabelReader = Callable[[Path], NDArray[np.integer]]


@dataclass(frozen=True)
class LabelledFolder:
    """Pictures, their label maps, and what the label values mean.

    Attributes:
        images: (N,) pictures that have a label map.
        masks: (N,) their label maps.
        classes: the K classes that are scored.
        table: label value -> 0..K-1, or ``IGNORE``; a value beyond it is an error.
        background: whether class 0 is what none of the others is (a protocol may then use a threshold).
        read: how a label map is read, as stored.
    """

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    classes: ClassList
    table: NDArray[np.uint8]
    background: bool = False
    read: LabelReader = read_labels

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[tuple[Path, RGB, NDArray[np.uint8]]]:
        """Path, picture (H, W, 3) and truth (H, W) of 0..K-1 or ``IGNORE``, one after the other."""
        for index, image in enumerate(self.images):
            picture, truth = load_rgb(image), self.truth(index)
            if truth.shape != picture.shape[:2]:
                raise UserError(f"{self.masks[index]}: {truth.shape} is not the size {picture.shape[:2]} of {image}")
            yield image, picture, truth

    def truth(self, index: int) -> NDArray[np.uint8]:
        """(H, W) 0..K-1 or ``IGNORE`` of one picture.

        Raises:
            UserError: a value that the set does not have.
        """
        return apply_table(self.table, self.read(self.masks[index]), self.masks[index])


def load_label_table(name: str, classes: ClassList, size: int = 256) -> NDArray[np.uint8]:
    """The table of ``assets/labels/NAME.txt`` (lines ``value name``) for these classes; other values are ignored.

    Several values may name one class.

    Raises:
        UserError: a class that the table does not know.
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


def value_table(classes: Sequence[int], ignored: Collection[int] = (IGNORE,), size: int = 256) -> NDArray[np.uint8]:
    """A table for sets in which any other value is a mistake.

    Args:
        classes: the value of class 0, 1, ..., K-1.
        ignored: values that are rightly there and not scored.
        size: of the table.

    Returns:
        (size,) 0..K-1, ``IGNORE``, or K for a mistake, which no scorer takes for a class and each refuses.
    """
    table = np.full(size, len(classes), np.uint8)
    table[list(ignored)] = IGNORE
    table[list(classes)] = np.arange(len(classes))
    return table


Pairs = tuple[tuple[Path, ...], tuple[Path, ...]]


def pair_by_stem(images: Path, masks: Path, suffix: str = ".png", cut: str = "") -> Pairs:
    """Each label map of a folder with the picture of the same stem.

    Args:
        images, masks: folders.
        suffix: of label maps.
        cut: what the label maps' stems end in and the pictures' do not.

    Raises:
        UserError: no label map, or one without a picture.
    """
    found = sorted(masks.glob(f"*{suffix}"))
    by_stem = {path.stem: path for path in find_images(images)}
    stems = [path.name.removesuffix(suffix).removesuffix(cut) for path in found]
    if not found:
        raise UserError(f"{masks}: no label map (*{suffix}) there; give the folder that the set's archive unpacks to")
    if missing := [stem for stem in stems if stem not in by_stem]:
        raise UserError(
            f"{masks}: {missing[0]}{cut}{suffix} has no picture in {images}; each needs one of the same name"
        )
    return tuple(by_stem[stem] for stem in stems), tuple(found)


def plain_folders(images: Path, masks: Path, classes: ClassList, first: int = 0) -> LabelledFolder:
    """Anybody's set: a folder of pictures, a folder of label PNGs of the same stems, values ``first``.. and 255.

    ``first`` = 1 is the "reduce zero label" of sets whose value 0 is no class.
    """
    pictures, found = pair_by_stem(images, masks)
    table = value_table(range(first, first + len(classes)), (*range(first), IGNORE))
    return LabelledFolder(pictures, found, classes, table)


def coco128(root: Path, classes: ClassList) -> LabelledFolder:
    """The labelled pictures of coco128: ``images/*.jpg``, ``masks/*.png`` with COCO panoptic ids, 0 unlabelled."""
    images, masks = pair_by_stem(root / "images", root / "masks")
    return LabelledFolder(images, masks, classes, load_label_table("coco-panoptic", classes))
