"""A folder of labeled images in any form that annotation tools export, as one ``LabeledFolder``.

Looked for in this order: CVAT's ``annotations.xml`` (any XML of CVAT), a COCO JSON, Label Studio's JSON, labelme's JSON
files, and label maps: Pascal VOC's layout, ``images/`` beside ``labels/`` or ``masks/``, or images and PNGs of the same
names. Pascal VOC's boxes count where it has no label maps.
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.annotations.coco import read_coco
from clips4.annotations.cvat import read_cvat
from clips4.annotations.label_studio import read_label_studio
from clips4.annotations.labelme import read_labelme
from clips4.annotations.shapes import AnnotatedImage, label_map
from clips4.annotations.voc import LABELMAP, read_labelmap, read_voc
from clips4.data.class_names import ClassList, folded, load_classes, named_classes
from clips4.data.image_folder import files_below
from clips4.data.label_maps import IGNORE, ignore_value
from clips4.data.label_maps import SUFFIXES as LABEL_SUFFIXES
from clips4.data.pairs import by_name, match
from clips4.data.segmentation_dataset import LabeledFolder, value_table
from clips4.errors import UserError
from clips4.utils.images import SUFFIXES
from clips4.utils.output_folder.manifest import FOLDER
from clips4.utils.text import listing

_CLASS_FILES = ("classes.txt", "labels.txt", "class_names.txt", "data.yaml")
_LAYOUTS = (("JPEGImages", "SegmentationClass"), ("images", "labels"), ("images", "masks"), ("images", "annotations"))
_UPLOADED = re.compile("^[0-9a-f]{8}-")  # what Label Studio puts before the name of an upload
_LISTED = 5


@dataclass(frozen=True)
class _Drawn:
    """Label maps by image file, drawn where they are asked for; can be sent to other processes."""

    annotated: Mapping[Path, AnnotatedImage]
    names: tuple[str, ...]

    def __call__(self, path: Path) -> NDArray[np.integer]:
        return label_map(self.annotated[path], self.names)


def open_labels(folder: str | Path, classes: ClassList | None = None) -> LabeledFolder:
    """The labeled images of a folder; images without labels are left out, with a warning.

    Args:
        folder: see the module; hidden files and outputs' manifests are not looked at.
        classes: whose labels count; by default the names that the annotations have, in alphabetical order, or for label
            maps those of a class file in the folder (``labelmap.txt``, ``classes.txt``, ``labels.txt``, ``data.yaml``).

    Returns:
        Label maps with the places of the classes; pixels without a label, or of another class, are not scored.

    Raises:
        UserError: no labels, none of the classes in them, labels whose image is missing, or a damaged file.
    """
    folder = Path(folder)
    files = [path for path in files_below(folder) if FOLDER not in path.parts] if folder.is_dir() else []
    annotated = _annotations(files)
    if not annotated:
        return _label_maps(folder, files, classes)
    images = _images_of(folder, files, annotated)
    found = Counter(shape.name for each in annotated for shape in each.shapes)
    if classes is None:
        classes = named_classes({folded(name): name for name in sorted(found) if name}.values(), str(folder))
    _check_known(folder, found, classes)
    if left_out := sum(each.left_out for each in annotated):
        _warn(f"{folder}: {left_out} points, lines and other shapes without an area are not used")
    read = _Drawn(dict(zip(images, annotated, strict=True)), classes.names)
    return LabeledFolder(tuple(images), tuple(images), classes, value_table(range(len(classes))), read=read)


def _check_known(folder: Path, found: Iterable[str], classes: ClassList) -> None:
    """Warn of labels that are not among the classes."""
    found, known = set(found), set(map(folded, classes.names))
    if others := sorted(name for name in found if folded(name) not in known):
        if len(others) == len(found):
            raise UserError(f"{folder}: labels {listing(others, _LISTED)}, none of the classes; give other class names")
        _warn(f"{folder}: not among the classes, so not used: {listing(others, _LISTED)}")


def _annotations(files: Sequence[Path]) -> list[AnnotatedImage]:
    """What annotation files say, of images that have shapes; from the first format that there is."""
    for suffix, read_all in ((".xml", read_cvat), (".json", read_coco), (".json", read_label_studio)):
        documents = [found for path in files if path.suffix.lower() == suffix and (found := read_all(path)) is not None]
        if documents:
            return [each for document in documents for each in document if each.shapes]
    found = []
    for path in (path for path in files if path.suffix.lower() == ".json"):
        if (one := read_labelme(path)) is not None and one.shapes:
            # labelme's path of the image starts at the JSON file, which has the image's name
            found.append(AnnotatedImage(str(path.parent / one.image), one.height, one.width, one.shapes, one.left_out))
    if not found and not any(path.parent.name == _LAYOUTS[0][1] for path in files):
        boxes = [read_voc(path) for path in files if path.suffix.lower() == ".xml"]
        found = [each for each in boxes if each is not None and each.shapes]
    return found


def _images_of(folder: Path, files: Sequence[Path], annotated: Sequence[AnnotatedImage]) -> list[Path]:
    """The image file of each annotation: that path, or the only file below the folder whose path ends so."""
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    found = []
    for each in annotated:
        place = Path(each.image)
        direct = [path for path in (place, folder / place, folder / "images" / place) if path.is_file()]
        ending = [path for path in images if path.parts[-len(place.parts) :] == place.parts] or [
            path for path in images if path.name in (place.name, _UPLOADED.sub("", place.name))
        ]
        if not direct and len(ending) != 1:
            problem = f"{len(ending)} images have this name" if ending else "there is no such image"
            raise UserError(f"{folder}: labels of {each.image}, but {problem}; put the images beside their labels")
        found.append((direct or ending)[0])
    if twice := [path for path, count in Counter(found).items() if count > 1]:
        raise UserError(f"{twice[0]}: has labels twice; keep one of them")
    return found


def _label_maps(folder: Path, files: Sequence[Path], classes: ClassList | None) -> LabeledFolder:
    """Images and label maps of the same names: in two folders of a layout, or side by side as JPEG and PNG."""
    layouts = [(folder / images, folder / masks) for images, masks in _LAYOUTS]
    images_in, masks_in = next((pair for pair in layouts if all(each.is_dir() for each in pair)), (folder, folder))
    masks = [path for path in files if path.is_relative_to(masks_in) and path.suffix.lower() in LABEL_SUFFIXES]
    images = [path for path in files if path.is_relative_to(images_in) and path.suffix.lower() in SUFFIXES]
    if images_in == masks_in:
        images = [path for path in images if path not in masks]
        stems = {path.with_suffix("") for path in images}
        masks = [path for path in masks if path.with_suffix("") in stems]
    found = by_name(masks, masks_in)
    if not found:
        raise UserError(
            f"{folder}: no labels there; give labelme, CVAT or COCO files with their images, images/ and labels/, or "
            "label PNGs beside JPEGs of the same names"
        )
    paths = match(list(found), by_name(images, images_in), images_in, ", the image of a label map")
    if (folder / LABELMAP).is_file():
        listed = read_labelmap(folder / LABELMAP)
        classes, table = _by_labelmap(folder, listed.names, classes)
        return LabeledFolder(tuple(paths), tuple(found.values()), classes, table, read=listed)
    classes = classes or _listed_classes(folder, masks_in)
    return LabeledFolder(tuple(paths), tuple(found.values()), classes, value_table(range(len(classes))))


def _by_labelmap(
    folder: Path, named: Sequence[str], classes: ClassList | None
) -> tuple[ClassList, NDArray[np.integer]]:
    """The classes, by default those of ``labelmap.txt``, and the place among them of each value that it names."""
    classes = classes or named_classes(named, str(folder / LABELMAP))
    _check_known(folder, named, classes)
    table = np.full(max(256, len(named)), len(classes), np.uint16)  # no place: a value that has no name
    table[IGNORE] = ignored = ignore_value(len(classes))
    places = {folded(name): place for place, name in enumerate(classes.names)}
    table[: len(named)] = [places.get(folded(name), ignored) for name in named]
    return classes, table if len(classes) > IGNORE else table.astype(np.uint8)


def _listed_classes(folder: Path, masks: Path) -> ClassList:
    if listed := next((folder / name for name in _CLASS_FILES if (folder / name).is_file()), None):
        return load_classes(listed)
    if masks.name == "SegmentationClass":
        return load_classes("voc21")
    raise UserError(f"{folder}: label maps hold numbers; give the class names, or put them in {_CLASS_FILES[0]} there")


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
