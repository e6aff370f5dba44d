"""Precomputing the regions of a folder: two workers against one.

    python benchmarks/region_workers.py --images ../shared/data/coco128/images --method gradient-ucm

Fills an empty cache with one worker, then another with two, as ``clips4 regions IMAGES --long-side 512 --workers N``
does, start of the workers included, and prints seconds and their ratio.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from clips4.images import find_images
from clips4.listening import Silent
from clips4.region_files import region_files, region_settings


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=Path("../shared/data/coco128/images"))
    parser.add_argument("--method", default="gradient-ucm")
    parser.add_argument("--long-side", type=int, default=512)
    parser.add_argument("--first", type=int, default=None, metavar="N", help="the first N pictures only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = find_images(arguments.images)[: arguments.first]
    settings = region_settings(arguments.method, 48, None, None, [])
    seconds = []
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CLIPS4_CACHE"] = folder
            started = time.perf_counter()
            outcome = region_files(paths, settings, None, "png", workers, arguments.long_side, "cpu", Silent())
            seconds.append(time.perf_counter() - started)
            assert len(outcome.done) == len(paths)
    load = os.getloadavg()[0]
    print(
        f"{arguments.method}, {len(paths)} pictures: one worker {seconds[0]:.1f} s, two workers {seconds[1]:.1f} s, "
        f"{seconds[0] / seconds[1]:.2f} times as fast (load average at the end {load:.1f})"
    )


if __name__ == "__main__":
    main()
