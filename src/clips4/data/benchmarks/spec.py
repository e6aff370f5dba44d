"""Specification of a published set, used to load it, to score on it and to check a copy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.data.class_names import ClassList, load_classes
from clips4.data.image_folder import files_below, find_images
from clips4.data.label_maps import read_labels
from clips4.data.pairs import by_name, match
from clips4.data.segmentation_dataset import LabeledFolder, LabelReader, Pairs
from clips4.errors import UserError
from clips4.utils.text import first_columns

Table = Callable[[ClassList], NDArray[np.integer]]


@dataclass(frozen=True)
class SetSpec:
    """A set with label maps, in the layout that its own archives unpack to.

    Attributes:
        name: what ``--dataset`` takes.
        class_file: the shipped class list.
        splits: name -> published number of labeled images; the first is the default for scoring.
        pair: (root, split) -> images and label maps.
        table: label value -> class; see ``segmentation_dataset.value_table``.
        background: whether class 0 is the background.
        layout: for messages: the folders in a root.
        convention: for messages: the meaning of label values.
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
        """The split that is scored by default."""
        return next(iter(self.splits))

    def load(self, root: Path, split: str | None = None, classes: ClassList | None = None) -> LabeledFolder:
        """The labeled images of a split.

        Args:
            root: folder that the set's archives were unpacked in.
            split: one of ``splits``.
            classes: other aliases for the same class names in the same order; by default the shipped list.

        Raises:
            UserError: there is no such split, or files are not where the layout says.
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
            raise UserError(f"{error} (layout of {self.name}: {self.layout})")
        dataset = LabeledFolder(images, masks, classes or own, self.table(own), self.background, self.read)
        dataset.warn_of_orientation()
        return dataset


def pairs_from_list(root: Path, list_file: Path, images: str, masks: str, mask_suffix: str = ".png") -> Pairs:
    """Images and label maps of the names in a list file.

    Args:
        root: of the set.
        list_file: one name per line, without suffix.
        images, masks: folders in ``root``.
        mask_suffix: of the label maps.

    Raises:
        UserError: the list is missing or empty, or one of its files is missing.
    """
    if not list_file.is_file():
        raise UserError(f"{list_file}: no such file")
    names = first_columns(list_file)
    if not names:
        raise UserError(f"{list_file}: the list is empty")
    paths = tuple(root / images / f"{name}.jpg" for name in names)
    labels = tuple(root / masks / f"{name}{mask_suffix}" for name in names)
    for files in (paths, labels):
        if missing := [path for path in files if not path.is_file()]:
            raise UserError(f"{list_file} names {len(files)} images, {len(missing)} files are missing: {missing[0]}")
    return paths, labels


def pairs_in_subfolders(images: Path, masks: Path, cut_image: str, cut_mask: str) -> Pairs:
    """Images and label maps of the same names in subfolders, as in Cityscapes.

    Args:
        images, masks: folders of subfolders.
        cut_image, cut_mask: endings of the files' names, suffix included.

    Raises:
        UserError: there is no label map, or one has no image.
    """
    found = by_name(files_below(masks), masks, cut_mask)
    if not found:
        raise UserError(f"{masks}: no *{cut_mask} in this folder")
    paths = match(list(found), by_name(find_images(images), images, cut_image), images, cut_image)
    return tuple(paths), tuple(found.values())
