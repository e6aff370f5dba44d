"""BSDS500: photographs with several human segmentations each (Arbelaez et al., TPAMI 2011)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.errors import UserError
from clips4.utils.images import RGB, load_rgb


@dataclass(frozen=True)
class HumanSegmented:
    """A photograph and what people made of it.

    Attributes:
        name: the file's stem.
        image: (H, W, 3) uint8.
        truths: (H, W) regions 0.. each, one per person.
    """

    name: str
    image: RGB
    truths: tuple[NDArray[np.int32], ...]


def bsds_split(root: Path, split: str) -> list[Path]:
    """Photographs of a split (``train``, ``val``, ``test``) that have a ground-truth file, sorted.

    Raises:
        UserError: none there.
    """
    truth = root / "groundTruth" / split
    paths = [path for path in sorted((root / "images" / split).glob("*.jpg")) if _truth(root, path).is_file()]
    if not paths:
        raise UserError(f"{root}: expected images/{split}/*.jpg and {truth.relative_to(root)}/*.mat of BSDS500")
    return paths


def load_human_segmented(root: Path, path: Path) -> HumanSegmented:
    """One photograph of ``bsds_split`` with its human segmentations."""
    from scipy.io import loadmat

    cells = loadmat(_truth(root, path))["groundTruth"][0]
    truths = tuple(_consecutive(cell["Segmentation"][0, 0]) for cell in cells)
    return HumanSegmented(path.stem, load_rgb(path), truths)


def load_ucm2(path: Path) -> NDArray[np.float64]:
    """The ultrametric contour map (2 H + 1, 2 W + 1) in a .mat file as published with BSDS500."""
    from scipy.io import loadmat

    ucm2: NDArray[np.float64] = loadmat(path)["ucm2"]
    return ucm2


def _truth(root: Path, path: Path) -> Path:
    return root / "groundTruth" / path.parent.name / f"{path.stem}.mat"


def _consecutive(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)
