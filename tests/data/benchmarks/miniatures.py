"""Miniatures of published sets, in their true layouts."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from clips4.data.class_names import load_classes
from tests.helpers import noise_image

HEIGHT, WIDTH = 12, 16


def image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise_image(HEIGHT, WIDTH, seed)).save(path)


def labels(path: Path, values: list[int]) -> None:
    """Columns of the given values, from left to right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(columns(values)).save(path)


def wide_labels(path: Path, values: list[int]) -> None:
    """The same as a TIFF of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(columns(values, np.uint16)).save(path)


def columns(values: list[int], dtype: type[np.unsignedinteger] = np.uint8) -> NDArray[np.unsignedinteger]:
    return np.repeat(np.array(values, dtype)[np.arange(WIDTH) * len(values) // WIDTH][None], HEIGHT, 0)


def listing(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(names) + "\n")


def voc(root: Path, values: list[int] | None = None) -> Path:
    home = root / "VOCdevkit/VOC2012"
    for name in ("2007_000033", "2007_000042"):
        image(home / f"JPEGImages/{name}.jpg")
        labels(home / f"SegmentationClass/{name}.png", values or [0, 1, 20, 255])
    labels(home / "SegmentationClassAug/2007_000042.png", values or [0, 1, 20, 255])
    listing(home / "ImageSets/Segmentation/val.txt", ["2007_000033", "2007_000042"])
    listing(home / "ImageSets/Segmentation/trainaug.txt", ["2007_000042"])
    return root


def context(root: Path) -> Path:
    home = root / "VOCdevkit/VOC2010"
    image(home / "JPEGImages/2008_000002.jpg")
    labels(home / "SegmentationClassContext/2008_000002.png", [0, 1, 2, 59])
    listing(home / "ImageSets/SegmentationContext/val.txt", ["2008_000002"])
    return root


def context_labels(home: Path) -> tuple[dict[str, int], list[int]]:
    """Write labels.txt of 459 labels; the numbers of ours by name, from 2 on in another order, and the others."""
    names = load_classes("context59").names
    numbers = {name: 2 + 7 * index for index, name in enumerate(reversed(names))}
    other = sorted(set(range(1, 460)) - set(numbers.values()))
    lines = {number: name for name, number in numbers.items()} | {number: f"thing{number}" for number in other}
    listing(home / "labels.txt", [f"{number}: {lines[number]}" for number in sorted(lines)])
    return numbers, other


def context_as_published(root: Path) -> Path:
    """459 labels as .mat; ours are spread over them, from number 2, in another order."""
    home = root / "VOC2010"
    numbers, _ = context_labels(home)
    image(home / "JPEGImages/2008_000002.jpg")
    listing(home / "ImageSets/Main/val.txt", ["2008_000002"])
    row = np.array([1, numbers["aeroplane"], numbers["bag"], numbers["wood"]], np.uint16)
    (home / "trainval").mkdir(parents=True)
    savemat(home / "trainval/2008_000002.mat", {"LabelMap": row[np.repeat(np.arange(4), 4)][None].repeat(HEIGHT, 0)})
    return root


def context_of_odise(root: Path, values: list[int] | None = None) -> Path:
    """All 459 labels as ODISE's script converts them."""
    home = root / "pascal_ctx_d2"
    image(home / "images/validation/2008_000002.jpg")
    wide_labels(home / "annotations_ctx459/validation/2008_000002.tif", values or [65535, 0, 255, 430, 458])
    return root


def context_of_cat_seg(root: Path) -> Path:
    """All 459 labels as CAT-Seg's script converts them: beside the photographs of all of VOC."""
    home = root / "VOCdevkit/VOC2010"
    for name in ("2008_000002", "2008_000003"):
        image(home / f"JPEGImages/{name}.jpg")
    wide_labels(home / "annotations_detectron2/pc459_val/2008_000002.tif", [65535, 0, 255, 430, 458])
    return root


def context_whole_as_published(root: Path) -> Path:
    """All 459 labels as .mat, from 1 on, in the order of labels.txt."""
    home = root / "VOC2010"
    image(home / "JPEGImages/2008_000002.jpg")
    listing(home / "ImageSets/Main/val.txt", ["2008_000002"])
    (home / "trainval").mkdir(parents=True)
    savemat(home / "trainval/2008_000002.mat", {"LabelMap": columns([0, 1, 256, 431, 459], np.uint16)})
    return root


def coco_stuff(root: Path, values: list[int] | None = None) -> Path:
    image(root / "val2017/000000000139.jpg")
    labels(root / "stuffthingmaps/val2017/000000000139.png", values or [0, 89, 91, 181, 255])
    return root


def ade(root: Path, values: list[int] | None = None) -> Path:
    home = root / "ADEChallengeData2016"
    image(home / "images/validation/ADE_val_00000001.jpg")
    labels(home / "annotations/validation/ADE_val_00000001.png", values or [0, 1, 150])
    return root


def ade_full(root: Path, values: list[int] | None = None) -> Path:
    """ADE20K-Full as Mask2Former's script converts it."""
    home = root / "ADE20K_2021_17_01"
    image(home / "images_detectron2/validation/ADE_val_00000001.jpg")
    labels_of = home / "annotations_detectron2/validation/ADE_val_00000001.tif"
    wide_labels(labels_of, values or [65535, 0, 255, 256, 846])
    return root


def cityscapes(root: Path, values: list[int] | None = None) -> Path:
    for city in ("lindau", "munster"):
        stem = f"{city}_000000_000019"
        image(root / f"leftImg8bit/val/{city}/{stem}_leftImg8bit.png")
        labels(root / f"gtFine/val/{city}/{stem}_gtFine_labelIds.png", values or [0, 7, 9, 33, 255])
        labels(root / f"gtFine/val/{city}/{stem}_gtFine_instanceIds.png", [1])
    return root


def camvid(root: Path) -> Path:
    for split in ("train", "val"):
        image(root / f"{split}/0001TP_009210.jpg")
        labels(root / f"{split}annot/0001TP_009210.png", [0, 10, 11])
    return root


def davis(root: Path, year: int = 2016) -> Path:
    for name in ("blackswan", "cows"):
        for frame in range(4):
            image(root / f"JPEGImages/480p/{name}/{frame:05d}.jpg", frame)
            labels(root / f"Annotations/480p/{name}/{frame:05d}.png", [0, 255] if year == 2016 else [0, 1, 2])
    if year == 2017:
        listing(root / "ImageSets/2017/val.txt", ["cows"])
    return root


def bsds(root: Path) -> Path:
    home = root / "BSDS500/data"
    image(home / "images/val/101085.jpg")
    (home / "groundTruth/val").mkdir(parents=True)
    cells = np.empty((1, 2), object)
    for person in range(2):
        segmentation = columns([1, 2, 3][: person + 2]).astype(np.uint16)
        cells[0, person] = {"Segmentation": segmentation, "Boundaries": np.zeros((HEIGHT, WIDTH), np.uint8)}
    savemat(home / "groundTruth/val/101085.mat", {"groundTruth": cells})
    return root
