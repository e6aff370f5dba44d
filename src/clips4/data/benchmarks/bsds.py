"""BSDS500: photographs, each segmented by several people (Arbelaez et al., TPAMI 2011)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.errors import UserError
from clips4.utils.images import RGB, load_rgb

LAYOUT = "BSDS500/data/images/SPLIT/*.jpg and BSDS500/data/groundTruth/SPLIT/*.mat"
SPLITS = {"val": 100, "train": 200, "test": 200}


@dataclass(frozen=True)
class SegmentedPhotograph:
    """A photograph and its human segmentations.

    Attributes:
        path: of the photograph.
        image: (H, W, 3) uint8.
        truths: (H, W) regions 0, 1, ... each, one per person.
    """

    path: Path
    image: RGB
    truths: tuple[NDArray[np.int32], ...]


@dataclass(frozen=True)
class Bsds:
    """Photographs and the files of their human segmentations; read one at a time."""

    images: tuple[Path, ...]
    truths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> SegmentedPhotograph:
        path = self.images[index]
        return SegmentedPhotograph(path, load_rgb(path), read_segmentations(self.truths[index]))

    def __iter__(self) -> Iterator[SegmentedPhotograph]:
        return (self[index] for index in range(len(self)))


def read_segmentations(path: Path) -> tuple[NDArray[np.int32], ...]:
    """The (H, W) segmentations in a groundTruth file, one per person, regions numbered 0, 1, ... without gaps.

    Raises:
        UserError: the file is unreadable, or has no segmentations.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        cells = loadmat(path)["groundTruth"].ravel()
        return tuple(_consecutive(cell["Segmentation"][0, 0]) for cell in cells)
    except (OSError, KeyError, ValueError, IndexError, TypeError, NotImplementedError, MatReadError) as error:
        raise UserError(f"{path}: not a groundTruth file of BSDS500 ({type(error).__name__}); copy it again")


def load_bsds(root: Path, split: str = "val") -> Bsds:
    """The photographs of a split that have segmentations.

    Raises:
        UserError: the split or its folders do not exist, or a photograph is missing.
    """
    if split not in SPLITS:
        raise UserError(f"bsds500: no split {split!r}; give one of {', '.join(SPLITS)}")
    candidates = (root, root / "data", root / "BSDS500/data")
    base = next((folder for folder in candidates if (folder / "groundTruth" / split).is_dir()), None)
    if base is None:
        raise UserError(f"{root}: no groundTruth/{split} in this folder; layout of BSDS500: {LAYOUT}")
    truths = tuple(sorted((base / "groundTruth" / split).glob("*.mat")))
    images = tuple(base / "images" / split / f"{path.stem}.jpg" for path in truths)
    if not truths:
        raise UserError(f"{base / 'groundTruth' / split}: no *.mat in this folder; layout of BSDS500: {LAYOUT}")
    if missing := [path for path in images if not path.is_file()]:
        raise UserError(f"{missing[0]}: missing, though its segmentations exist ({len(missing)} of {len(images)} are)")
    return Bsds(images, truths)


def _consecutive(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)
