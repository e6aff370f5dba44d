"""No label is seen in training: whatever lies beside the pictures, and whatever is scored meanwhile, the weights are
the same bit for bit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from clips4.cli.app import app
from clips4.models.checkpoint import WEIGHTS, checkpoint_folders
from clips4.training.log import LOG, read_log
from tests.helpers import TINY, photograph

pytestmark = pytest.mark.slow

CLASSES = "coco128"
VALUES = {"right": (1, 17, 100), "shuffled": (17, 100, 1)}  # person, cat and a stuff class


def labeled_set(root: Path, values: tuple[int, ...] | None) -> Path:
    """Three photographs in coco128's layout, with label maps of these values or without any."""
    (root / "images").mkdir(parents=True)
    for index in range(3):
        photograph(seed=index).save(root / "images" / f"photo{index}.jpg")
        if values is not None:
            (root / "masks").mkdir(exist_ok=True)
            labels = np.full((72, 96), values[index], np.uint8)
            labels[24:48, 32:64] = values[0]
            Image.fromarray(labels).save(root / "masks" / f"photo{index}.png")
    return root


def train(root: Path, run: Path, *options: str) -> bytes:
    settings = [part for override in [*TINY, "train.steps=4", "train.eval_every=1"] for part in ("--set", override)]
    command = [
        "train",
        "--preset",
        "cpu",
        str(root / "images"),
        "--classes",
        CLASSES,
        "--out",
        str(run),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(app, [*command, *settings, *options])
    assert result.exit_code == 0, result.output
    return (checkpoint_folders(run)[-1] / WEIGHTS).read_bytes()  # the student, and all prototypes


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What is learnt where there are no labels at all."""
    folder = tmp_path_factory.mktemp("withheld")
    return train(labeled_set(folder / "set", None), folder / "run")


@pytest.mark.parametrize("labels", sorted(VALUES))
def test_labels_next_to_the_images_change_nothing(labels: str, without: bytes, tmp_path: Path) -> None:
    assert train(labeled_set(tmp_path / "set", VALUES[labels]), tmp_path / "run") == without


def test_scoring_on_labels_while_training_changes_nothing(without: bytes, tmp_path: Path) -> None:
    root = labeled_set(tmp_path / "set", VALUES["right"])
    assert train(root, tmp_path / "run", "--validate", f"coco128={root}") == without
    scores = [line["pixel_accuracy"] for line in read_log(tmp_path / "run" / LOG) if "pixel_accuracy" in line]
    assert len(scores) == 4  # they were looked at


def test_other_images_change_everything(without: bytes, tmp_path: Path) -> None:
    root = labeled_set(tmp_path / "set", None)
    shutil.copy(root / "images" / "photo0.jpg", root / "images" / "photo1.jpg")
    assert train(root, tmp_path / "run") != without
