"""Pictures with label maps, for scoring; training never reads these."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.data.labels import IGNORE, read_labels
from clips4.errors import UserError
from clips4.images import RGB, find_images, load_rgb
from clips4.vocabulary import ClassList, data_lines


@dataclass(frozen=True)
class LabelledFolder:
    """A folder of pictures, a folder of 8-bit label PNGs of the same stems, and what the label values mean.

    Attributes:
        images: (N,) pictures that have a label map.
        masks: (N,) their label maps.
        classes: the K classes that are scored.
        table: (256,) label value -> 0..K-1, or ``IGNORE``.
    """

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    classes: ClassList
    table: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[tuple[Path, RGB, NDArray[np.uint8]]]:
        """Path, picture (H, W, 3) and truth (H, W) of 0..K-1 or ``IGNORE``, one after the other."""
        for image, mask in zip(self.images, self.masks, strict=True):
            picture, truth = load_rgb(image), self.table[read_labels(mask)]
            if truth.shape != picture.shape[:2]:
                raise UserError(f"{mask}: {truth.shape} is not the size {picture.shape[:2]} of {image}")
            yield image, picture, truth


def load_label_table(name: str, classes: ClassList) -> NDArray[np.uint8]:
    """The table of ``assets/labels/NAME.txt`` (lines ``value name``) for these classes; other values are ignored.

    Raises:
        UserError: a class that the table does not know.
    """
    table = np.full(256, IGNORE, np.uint8)
    known = set()
    for line in data_lines(f"labels/{name}.txt"):
        value, label = line.split(" ", 1)
        if label in classes.names:
            table[int(value)] = classes.names.index(label)
            known.add(label)
    if missing := [label for label in classes.names if label not in known]:
        raise UserError(f"labels {name}: no value for the class {missing[0]!r}")
    return table


def coco128(root: Path, classes: ClassList) -> LabelledFolder:
    """The labelled pictures of coco128: ``images/*.jpg``, ``masks/*.png`` with COCO panoptic ids, 0 unlabelled."""
    masks = sorted((root / "masks").glob("*.png"))
    by_stem = {path.stem: path for path in find_images(root / "images")}
    if not masks or any(mask.stem not in by_stem for mask in masks):
        raise UserError(f"{root}: expected masks/*.png, each with a picture of the same name in images/")
    images = tuple(by_stem[mask.stem] for mask in masks)
    return LabelledFolder(images, tuple(masks), classes, load_label_table("coco-panoptic", classes))
