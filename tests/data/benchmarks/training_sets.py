"""A dozen small photographs in the true layout of each set of the paper, with splits to train on and to score."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from tests.data.benchmarks.miniatures import context_labels, listing
from tests.helpers import photograph

HEIGHT, WIDTH = 48, 64


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    photograph(HEIGHT, WIDTH, seed).save(path)


def disc(inside: int, outside: int, edge: int | None = None) -> NDArray[np.uint16]:
    """(H, W) labels of a photograph: its disc, what surrounds it, and a strip along the top."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    labels = np.full((HEIGHT, WIDTH), outside, np.uint16)
    labels[(y - HEIGHT / 2) ** 2 + (x - WIDTH / 2) ** 2 < (HEIGHT / 4) ** 2] = inside
    labels[:2] = outside if edge is None else edge
    return labels


def png(path: Path, labels: NDArray[np.uint16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def voc(root: Path) -> None:
    """Train and val have PNGs of VOC 2012; trainaug is a list of its own, with PNGs of SBD's folder."""
    home = root / "VOCdevkit/VOC2012"
    splits = {"train": range(3), "val": range(3, 6), "trainaug": (0, 1, 2, 6, 7)}
    for number in range(8):
        photo(home / f"JPEGImages/2007_{number:06d}.jpg", number)
        labels = disc(8, 15 if number % 2 else 0, 255)  # a cat, and a person or the background
        png(home / f"SegmentationClassAug/2007_{number:06d}.png", labels)
        if number < 6:
            png(home / f"SegmentationClass/2007_{number:06d}.png", labels)
    for split, numbers in splits.items():
        listing(home / f"ImageSets/Segmentation/{split}.txt", [f"2007_{number:06d}" for number in numbers])


def context(root: Path) -> None:
    """As published: 459 labels in .mat files, and labels.txt, which names ours among them."""
    home = root / "VOCdevkit/VOC2010"
    numbers, other = context_labels(home)
    (home / "trainval").mkdir(parents=True, exist_ok=True)
    for number in range(6):
        stem = f"2008_{number:06d}"
        photo(home / f"JPEGImages/{stem}.jpg", number)
        # dog, grass, cat and water are unknown in folds 0, 1, 2 and 3; the strip is a thing that is none of the 59
        inside, outside = ("cat", "grass") if number % 2 else ("dog", "water")
        savemat(home / f"trainval/{stem}.mat", {"LabelMap": disc(numbers[inside], numbers[outside], other[0])})
    listing(home / "ImageSets/Main/train.txt", [f"2008_{number:06d}" for number in range(3)])
    listing(home / "ImageSets/Main/val.txt", [f"2008_{number:06d}" for number in range(3, 6)])


def coco_stuff(root: Path) -> None:
    """Raw ids less one: a cat is 16, grass 123; 11, 25 and others are unused."""
    for number in range(6):
        split, stem = "train2017" if number < 3 else "val2017", f"{number:012d}"
        photo(root / f"coco/{split}/{stem}.jpg", number)
        png(root / f"coco/stuffthingmaps/{split}/{stem}.png", disc(16, 123, 255))


def davis(root: Path) -> None:
    """Two sequences of val, each with two objects by number, and one that val.txt does not list."""
    for name in ("bike-packing", "judo", "bear"):
        for frame in range(4):
            photo(root / f"DAVIS/JPEGImages/480p/{name}/{frame:05d}.jpg", frame)
            png(root / f"DAVIS/Annotations/480p/{name}/{frame:05d}.png", disc(1, 0, 2))
    listing(root / "DAVIS/ImageSets/2017/val.txt", ["bike-packing", "judo"])


def all_sets(root: Path) -> Path:
    """Every set of the paper below one folder, as ``clips4 reproduce --data`` takes it."""
    for make in (voc, context, coco_stuff, davis):
        make(root)
    return root
