"""BSDS500 and its .mat files."""

from pathlib import Path

import numpy as np
import pytest

from clips4.data.benchmarks.bsds import load_bsds
from clips4.errors import UserError
from tests.data.benchmarks import miniatures
from tests.helpers import shared
from tests.reference.ucm2 import read_ucm2


def test_load_bsds_yields_a_segmentation_of_each_person(tmp_path: Path) -> None:
    (photograph,) = load_bsds(miniatures.bsds(tmp_path))
    assert photograph.path.name == "101085.jpg"
    assert [np.unique(truth).tolist() for truth in photograph.truths] == [[0, 1], [0, 1, 2]]
    assert all(truth.shape == photograph.image.shape[:2] for truth in photograph.truths)


def test_what_is_wrong_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no groundTruth/val"):
        load_bsds(tmp_path)
    with pytest.raises(UserError, match="no split"):
        load_bsds(tmp_path, "all")
    root = miniatures.bsds(tmp_path)
    truth = root / "BSDS500/data/groundTruth/val/101085.mat"
    truth.write_bytes(b"no")
    with pytest.raises(UserError, match="not a groundTruth file"):
        list(load_bsds(root))
    (root / "BSDS500/data/images/val/101085.jpg").unlink()
    with pytest.raises(UserError, match="missing, though its segmentations exist"):
        load_bsds(root)


def test_load_bsds_real_set_has_published_counts() -> None:
    dataset = load_bsds(shared("bsds500"))
    assert len(dataset) == 100
    photograph = dataset[0]
    assert len(photograph.truths) >= 4
    assert all(truth.shape == photograph.image.shape[:2] and truth.min() == 0 for truth in photograph.truths)
    published = sorted((shared("bsds500") / "ucm2/train").glob("*.mat"))
    assert len(published) == 40
    assert read_ucm2(published[0]).shape == (643, 963)
