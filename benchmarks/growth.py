"""Growth with the number of images: time should be linear, memory constant.

    python benchmarks/growth.py                            (some minutes on two cores)

The prototype search and the loader over 1, 2 and 4 times as many synthetic images, then 2,000 steps of a tiny training
run: seconds and memory of the process. Each in its own process, with its own caches.
"""

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

SETTINGS = ["data.crop=32", "data.long_side=64", "regions.count=12", "student.width=16", "train.batch=4"]


def resident() -> float:
    """MiB that the process holds now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def prototypes(count: int, folder: Path) -> None:
    """The prototype pass over ``count`` images, all of a few kinds of segments."""
    import torch.nn.functional as F

    from clips4.method.prototype_search import PrototypeSearch

    draw = torch.Generator().manual_seed(0)
    search = PrototypeSearch(F.normalize(torch.randn(92, 384, generator=draw), dim=1), 32, 4096, 0)
    before, started = resident(), time.perf_counter()
    highest = before
    for image in range(count):
        search.add(image, F.normalize(torch.randn(64, 384, generator=draw), dim=1))
        if image % 500 == 0:
            highest = max(highest, resident())
    known, sample = search.result()
    print(
        f"prototype search, {count:6} images of 64 segments: {time.perf_counter() - started:6.1f} s, "
        f"{highest - before:6.1f} MiB more at most, {len(known)} prototypes and a sample of {len(sample)}"
    )


def loader(count: int, folder: Path) -> None:
    """One epoch of the loader over ``count`` images."""
    from kills import make_images

    from clips4.config import load_config
    from clips4.data.loader import Positions, ViewStream, batches
    from clips4.data.views import ItemMaker
    from clips4.regions.cache import RegionCache

    config = load_config("cpu", SETTINGS)
    paths = make_images(folder / "images", count)
    unit = torch.nn.functional.normalize(torch.ones(384, 4, 4), dim=0).half()
    stream = ViewStream(paths, ItemMaker(RegionCache(config.regions, folder), lambda _: unit, config.data, 8, 0, 64))
    for _ in batches(stream, Positions(range(2), 1, 4), 4):  # imports, and the first regions
        pass
    before, started = resident(), time.perf_counter()
    highest = before
    for step, _ in enumerate(batches(stream, Positions(range(count // 4), 1, 4), 4)):
        if step % 50 == 0:
            highest = max(highest, resident())
    print(f"loader, {count:6} images: {time.perf_counter() - started:6.1f} s, {highest - before:6.1f} MiB more at most")


def training(steps: int, folder: Path) -> None:
    """A tiny training, its memory at every tenth of the way."""
    from kills import make_images

    from clips4.config import load_config
    from clips4.data.class_names import load_classes
    from clips4.training.loop import train
    from clips4.utils.progress import NoProgress

    os.environ["CLIPS4_CACHE"] = str(folder / "cache")
    marks: list[str] = []

    class Memory(NoProgress):
        def __init__(self) -> None:
            self.step = 0

        def advance(self, values: dict[str, float]) -> None:
            if values:
                self.step += 1
                if self.step % (steps // 10) == 0:
                    marks.append(f"{resident():.0f}")

    config = load_config("cpu", [*SETTINGS, f"train.steps={steps}", f"train.save_every={steps}"])
    started = time.perf_counter()
    paths = make_images(folder / "images", 16)
    train(paths, load_classes("cat,cup,grass"), config, folder / "run", device="cpu", progress=Memory())
    print(f"training, {steps} steps: {time.perf_counter() - started:.0f} s, MiB at each tenth: {' '.join(marks)}")


def main() -> None:
    """Each measurement in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--only", nargs=2, metavar=("WHAT", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        work = {"prototypes": prototypes, "loader": loader, "training": training}[arguments.only[0]]
        with tempfile.TemporaryDirectory() as temporary:
            work(int(arguments.only[1]), Path(temporary))
        return
    wanted = [(what, count * factor) for what, count in (("prototypes", 2500), ("loader", 400)) for factor in (1, 2, 4)]
    for what, count in [*wanted, ("training", arguments.steps)]:
        command = [sys.executable, __file__, "--only", what, str(count)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
