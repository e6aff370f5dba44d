"""Reading BSDS500's files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from clips4.data.benchmarks.bsds_segmentations import bsds_split, load_human_segmented, load_ucm2
from clips4.errors import UserError
from tests.helpers import BSDS, with_bsds


def write_bsds(root: Path, segmentations: list[np.ndarray]) -> None:
    for folder in ("images/val", "groundTruth/val"):
        (root / folder).mkdir(parents=True)
    cells = np.empty((1, len(segmentations)), object)
    for index, labels in enumerate(segmentations):
        cells[0, index] = {"Segmentation": labels, "Boundaries": np.zeros_like(labels)}
    savemat(root / "groundTruth/val/7.mat", {"groundTruth": cells})
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(root / "images/val/7.jpg")
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(root / "images/val/8.jpg")  # without truth


def test_segmentations_are_numbered_from_0(tmp_path: Path) -> None:
    one, other = np.arange(12, dtype=np.uint16).reshape(3, 4) // 4 + 1, np.full((3, 4), 5, np.uint16)
    write_bsds(tmp_path, [one, other])
    paths = bsds_split(tmp_path, "val")
    assert [path.name for path in paths] == ["7.jpg"]
    each = load_human_segmented(tmp_path, paths[0])
    assert [truth.tolist() for truth in each.truths] == [(one - 1).tolist(), np.zeros((3, 4)).tolist()]


def test_a_folder_without_them_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected images/val/\*\.jpg and groundTruth/val/\*\.mat"):
        bsds_split(tmp_path, "val")


@with_bsds
def test_the_real_set() -> None:
    assert (len(bsds_split(BSDS, "train")), len(bsds_split(BSDS, "val"))) == (200, 100)
    each = load_human_segmented(BSDS, bsds_split(BSDS, "val")[0])
    assert all(truth.shape == each.image.shape[:2] for truth in each.truths)
    published = sorted((BSDS / "ucm2/train").glob("*.mat"))
    assert len(published) == 40
    assert load_ucm2(published[0]).shape == (643, 963)
