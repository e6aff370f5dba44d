"""What the loader costs: processor time of an image, and how much of a training step waits for the next batch.

    python benchmarks/loader.py ../shared/data/coco128 --preset recommended
    python benchmarks/loader.py ../shared/data/coco128 --preset cpu --set data.workers=1

A real training of some steps with the preset, by default with two loader processes: seconds of a step and how long it
waits (medians; the first steps start processes and are left out). Then the processor time that one image takes in a
loader process, with its regions and its teacher map in the cache, as in all epochs but the first.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import torch

from clips4.config import Config, load_config
from clips4.data.class_names import load_classes
from clips4.data.image_folder import load_training_image
from clips4.data.image_source import find_training_images
from clips4.data.loader import Batch
from clips4.data.views import ItemMaker
from clips4.training.loop import train
from clips4.training.setup import Run, open_batches

WARMING = 3  # steps
IMAGES = 32  # of which processor time is measured, three times


def waits(config: Config, paths: list[Path], run: Path) -> tuple[list[float], list[float], Run]:
    """Seconds that each step waits for its batch, seconds of each step, and the run."""
    began: list[float] = []
    waited: list[float] = []
    runs: list[Run] = []

    def timed(run: Run) -> Generator[Batch, None, None]:
        runs.append(run)
        batches = open_batches(run)
        try:
            while True:
                began.append(time.perf_counter())
                batch = next(batches)
                waited.append(time.perf_counter() - began[-1])
                yield batch
        finally:
            batches.close()

    with patch("clips4.training.loop.open_batches", timed):
        train(paths, load_classes("coco128"), config, run, device="cpu", report=False)
    steps = [last - first for first, last in pairwise(began)]
    return waited[WARMING : len(steps)], steps[WARMING:], runs[0]


def processor(run: Run, paths: list[Path]) -> float:
    """Milliseconds of one core for an image's part of a batch."""
    draw = run.config.objective.contrast_pixels // run.config.train.batch
    data, stride = run.config.data, run.config.student.stride
    make_item = ItemMaker(run.regions, run.teacher_maps, data, stride, run.config.train.seed, draw)
    rounds = []
    for _ in range(3):
        started = time.process_time()
        for place, path in enumerate(paths[:IMAGES]):
            make_item(load_training_image(path, data.long_side), str(path), place)
        rounds.append((time.process_time() - started) / len(paths[:IMAGES]))
    return 1000 * min(rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--preset", default="recommended")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    steps = [f"train.steps={arguments.steps}", f"train.save_every={arguments.steps}"]
    config = load_config(arguments.preset, ["data.workers=2", *steps, *arguments.set])
    paths = find_training_images([arguments.images])
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("CLIPS4_CACHE", f"{folder}/cache")
        waited, whole, run = waits(config, paths, Path(folder) / "run")
        cost = processor(run, paths)
    print(
        f"{arguments.preset}, batch {config.train.batch}, {config.data.workers} workers, {torch.get_num_threads()} "
        f"threads: a step {statistics.median(whole):.2f} s, of which it waits {1000 * statistics.median(waited):.1f} "
        f"ms; of all {len(whole)} steps' time {sum(waited) / sum(whole):.1%}; {cost:.1f} ms of one core for an image"
    )


if __name__ == "__main__":
    main()
