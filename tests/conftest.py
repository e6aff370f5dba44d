"""Fixtures: a folder of images and a run trained for two steps."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clips4.config import Config, load_config, with_overrides
from clips4.data.class_names import load_classes
from clips4.method.prototypes import known_prototypes
from clips4.models.checkpoint import load_checkpoint, save_checkpoint
from clips4.training.loop import train
from tests.helpers import TINY, photograph


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests never read or write the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("CLIPS4_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from threads, and test processes run side by side."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three images."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(3):
        photograph(seed=index).save(folder / f"photo{index}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    return load_config("cpu", TINY)


@pytest.fixture(scope="session")
def tiny_run(images: Path, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on three small images; do not write to it."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    train(sorted(images.iterdir()), load_classes("cat,cup,grass"), tiny_config, run, device="cpu", report=False)
    return run


@pytest.fixture(scope="session")
def nearest_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with three prototypes per class, of which the nearest counts, and context; do not write to it."""
    run, checkpoint = tmp_path_factory.mktemp("runs") / "nearest", load_checkpoint(tiny_run)
    before = checkpoint.prototypes
    assert before.bank is not None
    assert before.student_bank is not None
    bank, seen = before.bank.float(), before.student_bank.float()
    known, fitted = (known_prototypes(before.text, bank, 3, rows, "nearest") for rows in (None, seen))
    fitted = torch.cat([fitted, before.query_unknown])
    prototypes = replace(before, known=known, fitted=fitted, per_class="nearest")
    config = with_overrides(checkpoint.config, ["prototypes.per_class=nearest", "extensions.prediction_context=0.5"])
    save_checkpoint(run, checkpoint.step, config, checkpoint.student, prototypes, {}, 1)
    return run


@pytest.fixture
def copied_run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, which the test may change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))
