"""What is known of a published set, so that loading it, scoring it and checking a copy go by one description."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.data.class_names import ClassList, load_classes
from clips4.data.label_maps import read_labels
from clips4.data.segmentation_dataset import LabelledFolder, LabelReader, Pairs
from clips4.errors import UserError
from clips4.utils.images import find_images

Table = Callable[[ClassList], NDArray[np.uint8]]


@dataclass(frozen=True)
class SetSpec:
    """A set with label maps, in the layout that its own archives unpack to.

    Attributes:
        name: what ``--dataset`` takes.
        class_file: the shipped class list.
        splits: by name, the number of labelled pictures as published; the first is what is scored by default.
        pair: (root, split) -> pictures and label maps.
        table: label value -> class; see ``labelled.value_table``.
        background: whether class 0 is the background.
        layout: for messages: what a root holds.
        convention: for messages: what label values mean.
        read: how label maps are read.
    """

    name: str
    class_file: str
    splits: Mapping[str, int]
    pair: Callable[[Path, str], Pairs]
    table: Table
    layout: str
    convention: str
    background: bool = False
    read: LabelReader = read_labels

    @property
    def default_split(self) -> str:
        """The split that is scored where none is asked for."""
        return next(iter(self.splits))

    def load(self, root: Path, split: str | None = None, classes: ClassList | None = None) -> LabelledFolder:
        """The labelled pictures of a split.

        Args:
            root: folder that the set's archives were unpacked in.
            split: one of ``splits``.
            classes: other words for the same classes (names in the same order); the shipped list by default.

        Raises:
            UserError: no such split, or files that are not where the layout says.
        """
        split = split or self.default_split
        if split not in self.splits:
            raise UserError(f"{self.name}: no split {split!r}; there is {', '.join(self.splits)}")
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; give the root of {self.name}: {self.layout}")
        own = load_classes(self.class_file)
        if classes is not None and classes.names != own.names:
            raise UserError(f"{self.name}: another class list must name the same classes in the same order")
        try:
            images, masks = self.pair(root, split)
        except UserError as error:
            raise UserError(f"{error} ({self.name} is laid out so: {self.layout})")
        return LabelledFolder(images, masks, classes or own, self.table(own), self.background, self.read)


def listed(root: Path, list_file: Path, images: str, masks: str, mask_suffix: str = ".png") -> Pairs:
    """Pictures and label maps of the names in a list file.

    Args:
        images, masks: folders below ``root``.

    Raises:
        UserError: no list, an empty one, or a file of it that is not there.
    """
    if not list_file.is_file():
        raise UserError(f"{list_file}: no such file")
    names = [line.split()[0] for line in list_file.read_text("utf-8").splitlines() if line.strip()]
    if not names:
        raise UserError(f"{list_file}: names no picture")
    pictures = tuple(root / images / f"{name}.jpg" for name in names)
    labels = tuple(root / masks / f"{name}{mask_suffix}" for name in names)
    for paths in (pictures, labels):
        if missing := [path for path in paths if not path.is_file()]:
            raise UserError(f"{list_file} names {len(paths)} pictures, {len(missing)} files are missing: {missing[0]}")
    return pictures, labels


def below(images: Path, masks: Path, cut_image: str, cut_mask: str) -> Pairs:
    """Label maps in folders of folders (Cityscapes), each with the picture of the same folder and name.

    Args:
        cut_image, cut_mask: what the files' names end in, suffix and all.
    """
    found = sorted(masks.rglob(f"*{cut_mask}")) if masks.is_dir() else []
    if not found:
        raise UserError(f"{masks}: no *{cut_mask} there")
    by_name = {path.name.removesuffix(cut_image): path for path in find_images(images)}
    names = [path.name.removesuffix(cut_mask) for path in found]
    if missing := [name for name in names if name not in by_name]:
        raise UserError(f"{images}: {len(missing)} pictures are missing: {missing[0]}{cut_image}")
    return tuple(by_name[name] for name in names), tuple(found)
