"""Kill training with SIGKILL at random moments; each resumed run must end bit for bit like an uninterrupted one.

    python benchmarks/kills.py --kills 50                  (some ten minutes on two cores)

Sixty steps on small synthetic images, a checkpoint every fifth step, and a kill uniformly within the time of a whole
run: while images are loaded, while prototypes are made, within a step, while a checkpoint is written. One process is
forked for each run, so that Python and torch are loaded once.
"""

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clips4.config import load_config
from clips4.data.class_names import load_classes
from clips4.models.checkpoint import STATE, WEIGHTS, checkpoint_folders, load_checkpoint
from clips4.training.log import LOG, read_log
from clips4.training.loop import train

STEPS = 60
SETTINGS = [
    "data.crop=32",
    "data.long_side=64",
    "regions.count=6",
    "student.width=16",
    "segments.clusters=4",
    "prototypes.unknown=2",
    "train.batch=2",
    f"train.steps={STEPS}",
    "train.save_every=5",
    "train.ema=0.9",
]


def make_images(folder: Path, count: int) -> list[Path]:
    """Coarse random colors, enlarged."""
    folder.mkdir()
    draw, paths = np.random.default_rng(0), []
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (3, 4, 3), np.uint8))
        paths.append(folder / f"{number}.png")
        coarse.resize((64, 48), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def start(paths: list[Path], run: Path) -> int:
    """Fork a process that trains or resumes ``run``; return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ["CLIPS4_CACHE"] = str(run.parent / f"cache-{run.name}")
        train(paths, load_classes("cat,cup,grass"), load_config("cpu", SETTINGS), run, resume=True, device="cpu")
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def finish(child: int) -> None:
    """Wait for a process that has to end well."""
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"a training ended with status {status}")


def fingerprint(run: Path) -> str:
    """Digest of weights, prototypes and state of the last checkpoint, and of the log without its clock."""
    checkpoint = load_checkpoint(run, resuming=True)
    if checkpoint.step != STEPS:
        raise SystemExit(f"{run}: ended at step {checkpoint.step}")
    digest = hashlib.sha256()
    for name in (WEIGHTS, STATE):
        digest.update((checkpoint.path / name).read_bytes())
    for line in read_log(run / LOG):
        digest.update(repr(sorted((key, value) for key, value in line.items() if key != "seconds")).encode())
    return digest.hexdigest()


def main() -> None:
    """Train once unbroken, then kill and go on, many times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = make_images(folder / "images", 6)
        began = time.perf_counter()
        finish(start(paths, folder / "whole"))
        whole = time.perf_counter() - began
        expected = fingerprint(folder / "whole")
        print(f"unbroken: {whole:.1f} s, {expected[:16]}", flush=True)
        moments, same = random.Random(arguments.seed), 0
        for number in range(arguments.kills):
            run = folder / f"run{number}"
            child, moment = start(paths, run), moments.uniform(0, whole)
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            left = [checkpoint.name for checkpoint in checkpoint_folders(run)] if run.exists() else []
            finish(start(paths, run))
            equal = fingerprint(run) == expected
            same += equal
            print(
                f"kill {number + 1:3} after {moment:5.2f} s, {left[-1] if left else 'no checkpoint'}: "
                f"{'the same bits' if equal else 'OTHER BITS'}",
                flush=True,
            )
    print(f"{same} of {arguments.kills} killed runs ended bit-identical to the unbroken one")
    if same < arguments.kills:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
