"""SIGKILL at the worst moments: the run that goes on ends bit for bit like an unbroken one.

``benchmarks/kills.py`` does the same at fifty random moments.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clips4.config import load_config
from clips4.data.class_names import load_classes
from clips4.models.checkpoint import STATE, WEIGHTS, load_checkpoint
from clips4.training.log import LOG, read_log
from clips4.training.loop import train
from tests.helpers import TINY

SETTINGS = [*TINY, "train.steps=5", "train.save_every=1", "train.ema=0.5"]

pytestmark = pytest.mark.slow

# the child that is killed: it calls itself off at the given call of a function
CHILD = """
import os, shutil, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import clips4.models.checkpoint, clips4.training.loop, clips4.training.precompute, clips4.training.step
from clips4.config import load_config
from clips4.data.class_names import load_classes

folder, run, moment, *settings = sys.argv[1:]
module, name, when = moment.split(":")
module = {"checkpoints": clips4.models.checkpoint, "preparation": clips4.training.precompute,
          "training": clips4.training.step, "shutil": shutil}[module]
honest, calls = getattr(module, name), iter(range(1000))

def fatal(*arguments, **options):
    if next(calls) == int(when):
        os.kill(os.getpid(), signal.SIGKILL)
    return honest(*arguments, **options)

setattr(module, name, fatal)
clips4.training.loop.train(sorted(Path(folder).iterdir()), load_classes("cat,cup,grass"), load_config("cpu", settings),
                      Path(run), resume=True, device="cpu")
"""


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    train(sorted(images.iterdir()), load_classes("cat,cup,grass"), load_config("cpu", SETTINGS), run, device="cpu")
    return run


def contents(run: Path) -> tuple[bytes, bytes, list[dict[str, float]]]:
    checkpoint = load_checkpoint(run, resuming=True)
    log = [{key: value for key, value in line.items() if key != "seconds"} for line in read_log(run / LOG)]
    return (checkpoint.path / WEIGHTS).read_bytes(), (checkpoint.path / STATE).read_bytes(), log


@pytest.mark.parametrize(
    "moment",
    [
        "preparation:teacher_segments:1",  # while pictures are read
        "training:update_unknown:2",  # within a step
        "checkpoints:_digest:3",  # a checkpoint half written
        "checkpoints:remove_folder:1",  # before the removal of an old one
        "shutil:rmtree:1",  # within it
    ],
)
def test_killed_run_ends_like_an_unbroken_one(whole: Path, images: Path, tmp_path: Path, moment: str) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-c", CHILD, str(images), str(run), moment, *SETTINGS]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    paths, config = sorted(images.iterdir()), load_config("cpu", SETTINGS)
    train(paths, load_classes("cat,cup,grass"), config, run, resume=True, device="cpu")
    assert contents(run) == contents(whole)
    assert not list((run / "checkpoints").glob(".*"))
