"""Images per second of `clips4 segment` by one process and by two, and of the network alone.

    python benchmarks/scale.py RUN IMAGES --count 200 --rounds 3

Every process computes with one thread. A round runs the command by one process and by two ranks, one after the other;
the time of the same command for one image of each process is subtracted from both, so that Python's start does not
count. Ratios are medians over rounds. CPU seconds are those of all processes: on a machine that others use they mean
more than the clock. The split is of one process, stage by stage.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from clips4.data.image_folder import find_images
from clips4.inference.segmenter import Segmenter
from clips4.outputs.encode import image_files, parse_kinds
from clips4.utils.images import load_rgb


def segment(run: Path, images: list[Path], save: str, ranks: int) -> tuple[float, float]:
    """Seconds by the clock and of all processors, of one command in ``ranks`` processes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "clips4", "--quiet", "segment", str(run), *map(str, images)]
        command += ["--out", f"{folder}/out", "--save", save, "--device", "cpu"]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        variables = [{"RANK": str(rank), "WORLD_SIZE": str(ranks)} if ranks > 1 else {} for rank in range(ranks)]
        processes = [
            subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **each}, stdout=subprocess.DEVNULL)
            for each in variables
        ]
        codes = [process.wait() for process in processes]
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if any(codes):
        raise SystemExit(f"clips4 segment ended with exit codes {codes}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def split(run: Path, images: list[Path], save: str) -> dict[str, float]:
    """CPU seconds per image of each stage, in this thread."""
    torch.set_num_threads(1)
    segmenter, kinds = Segmenter.load(run, "cpu"), parse_kinds(save)
    query, spent = segmenter.query(), dict.fromkeys(("decode", "network", "predict", "encode files"), 0.0)

    def timed(stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        began = time.thread_time()
        result = work(*arguments)
        spent[stage] += (time.thread_time() - began) / len(images)
        return result

    segmenter.encode_image(images[0])
    for path in images:
        image = timed("decode", load_rgb, path)
        encoded = timed("network", segmenter.encode_image, image)
        result = timed("predict", segmenter.predict, encoded, query)
        embeddings = result.embeddings() if "npz" in kinds else None
        timed("encode files", image_files, result, path, path.stem, kinds, embeddings)
    return spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", default="png")
    given = parser.parse_args()
    images = find_images(given.images)[: given.count]
    spent = split(given.run, images[:20], given.save)
    whole = sum(spent.values())
    for stage, seconds in spent.items():
        print(f"{stage:13}{1000 * seconds:7.1f} ms of CPU per image, {seconds / whole:5.0%}", flush=True)
    speedups = []
    for number in range(given.rounds):
        start_one, start_two = (segment(given.run, images[:ranks], given.save, ranks) for ranks in (1, 2))
        one, two = (segment(given.run, images, given.save, ranks) for ranks in (1, 2))
        clock = [len(images) / (long[0] - short[0]) for long, short in ((one, start_one), (two, start_two))]
        work = [(long[1] - short[1]) / len(images) for long, short in ((one, start_one), (two, start_two))]
        speedups.append(clock[1] / clock[0])
        print(
            f"round {number + 1}: {clock[0]:.2f} images/s by one process, {clock[1]:.2f} by two, ratio "
            f"{speedups[-1]:.2f}; {1000 * work[0]:.0f} and {1000 * work[1]:.0f} ms of CPU per image; network alone "
            f"{1000 * spent['network']:.0f} ms",
            flush=True,
        )
    print(f"two processes against one: {statistics.median(speedups):.2f} times the images per second")


if __name__ == "__main__":
    main()
