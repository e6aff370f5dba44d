"""Speed of precomputing the regions of a folder: two workers compared with one.

    python benchmarks/region_workers.py --images ../shared/data/coco128/images --method gradient-ucm

Fills an empty cache with one worker, then another with two, as ``clips4 regions IMAGES --long-side 512 --workers N``
does, including the start of the workers, and prints seconds and their ratio. The same ratio for plain arithmetic is the
baseline: what the machine can give with its present load.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

# before anything is imported that reads them: one worker is one thread here, as each of two is
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

from clips4.data.image_folder import find_images
from clips4.regions.job import region_files, region_settings
from clips4.utils.progress import NoProgress


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=Path("../shared/data/coco128/images"))
    parser.add_argument("--method", default="gradient-ucm")
    parser.add_argument("--long-side", type=int, default=512)
    parser.add_argument("--first", type=int, default=None, metavar="N", help="the first N images only")
    arguments = parser.parse_args()
    paths = find_images(arguments.images)[: arguments.first]
    settings = region_settings(arguments.method, 48, None, None, [])
    baseline = arithmetic_ratio()
    seconds = []
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CLIPS4_CACHE"] = folder
            started = time.perf_counter()
            outcome = region_files(
                paths, settings, None, "png", workers, arguments.long_side, "cpu", False, NoProgress()
            )
            seconds.append(time.perf_counter() - started)
            assert len(outcome.done) == len(paths)
    print(
        f"{arguments.method}, {len(paths)} images: one worker {seconds[0]:.1f} s, two workers {seconds[1]:.1f} s, "
        f"{seconds[0] / seconds[1]:.2f} times as fast (plain arithmetic just before and after: {baseline:.2f} and "
        f"{arithmetic_ratio():.2f} times; load average {os.getloadavg()[0]:.1f})"
    )


def arithmetic_ratio() -> float:
    """How much faster two processes are than one at adding integers."""
    seconds = []
    for workers in (1, 2):
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            pool.map(add, [1] * 8, chunksize=1)  # started
            begun = time.perf_counter()
            pool.map(add, [5_000_000] * 16, chunksize=1)
            seconds.append(time.perf_counter() - begun)
    return seconds[0] / seconds[1]


def add(count: int) -> int:
    """Some work."""
    return sum(index * index for index in range(count))


if __name__ == "__main__":
    main()
