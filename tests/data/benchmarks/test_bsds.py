"""BSDS500 and its .mat files."""

from pathlib import Path

import pytest

from clips4.data.benchmarks.bsds import load_bsds
from clips4.errors import UserError
from tests.data.benchmarks import miniatures
from tests.evaluation.shared import shared


def test_each_person_has_a_segmentation(tmp_path: Path) -> None:
    dataset = load_bsds(miniatures.bsds(tmp_path))
    ((path, image, people),) = dataset
    assert path.name == "101085.jpg"
    assert [int(person.max()) for person in people] == [2, 3]
    assert all(person.shape == image.shape[:2] for person in people)


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
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
    with pytest.raises(UserError, match="missing, though its truth is there"):
        load_bsds(root)


def test_the_real_set() -> None:
    dataset = load_bsds(shared("bsds500"))
    assert len(dataset) == 100
    _, image, people = next(iter(dataset))
    assert len(people) >= 4
    assert all(person.shape == image.shape[:2] and person.min() >= 1 for person in people)
