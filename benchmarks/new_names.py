"""Cost of other class names on an encoded image: milliseconds, median and slowest of several rounds.

    python benchmarks/new_names.py --run runs/coco128 [--size 640x480 | --image FILE] [--threads 2]

"the same names": nothing new. "other names": their text vectors are in memory. "new names": never used before, so
the teacher encodes them (it is loaded already; the disk cache is empty). For comparison "another image":
the network encodes it, with the same names. All predict at the size of the image, unknown included. Besides
wall-clock time, processor time is printed: use it where other work runs on the machine.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from clips4.inference.unknown.name_suggestion import nouns
from clips4.utils.images import load_rgb


def timed(work: Callable[[int], object], rounds: int) -> tuple[float, float, float]:
    """Median and slowest by the clock and median by the processor, in milliseconds; two rounds are not counted."""
    spent, busy = [], []
    for number in range(rounds + 2):
        began, processor = time.perf_counter(), time.process_time()
        work(number)
        spent.append(1000 * (time.perf_counter() - began))
        busy.append(1000 * (time.process_time() - processor))
    return statistics.median(spent[2:]), max(spent[2:]), statistics.median(busy[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--size", default="640x480", help="WIDTHxHEIGHT")
    parser.add_argument("--image", default=None, help="a photograph; smooth noise of --size by default")
    parser.add_argument("--names", type=int, default=4, help="class names per query")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CLIPS4_CACHE"] = cache
        from clips4.inference.segmenter import Segmenter

        segmenter = Segmenter.load(arguments.run, "cpu")
        width, height = map(int, arguments.size.split("x"))
        draw = np.random.default_rng(0)
        coarse = [Image.fromarray(draw.integers(0, 256, (9, 12, 3), np.uint8)) for _ in range(arguments.rounds + 2)]
        images = [np.asarray(each.resize((width, height), Image.Resampling.BICUBIC)) for each in coarse]
        if arguments.image:
            images[0] = load_rgb(arguments.image)
            height, width = images[0].shape[:2]
        names, count = nouns(), arguments.names
        fixed = names[:count]
        segmenter.segment(images[0], fixed)  # loads the teacher
        segmenter.set_image(images[0])
        met = [names[1000 + n * count : 1000 + (n + 1) * count] for n in range(arguments.rounds + 2)]
        new = [names[2000 + n * count : 2000 + (n + 1) * count] for n in range(arguments.rounds + 2)]
        for each in met:
            segmenter.query(each)
        unknown = len(segmenter.prototypes.unknown) if segmenter.prototypes else 0
        print(f"{width} x {height}, {count} names and {unknown} unknown classes, {arguments.threads} threads")
        for label, work in {
            "the same names": lambda _: segmenter.segment(classes=fixed),
            "other names": lambda n: segmenter.segment(classes=met[n]),
            "new names": lambda n: segmenter.segment(classes=new[n]),
            "another image": lambda n: segmenter.segment(images[n], fixed),
        }.items():
            median, slowest, busy = timed(work, arguments.rounds)
            print(f"{label:16} {median:8.1f} ms   slowest {slowest:8.1f} ms   processor {busy:8.1f} ms", flush=True)


if __name__ == "__main__":
    main()
