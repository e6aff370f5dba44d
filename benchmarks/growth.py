"""Growth with the number of images: time should be linear, memory constant.

    python benchmarks/growth.py                            (some minutes on two cores)
    python benchmarks/growth.py --stream 100000            (an hour)
    python benchmarks/growth.py --stream 1000000 --pretend (two hours)
    python benchmarks/growth.py --entries 1000000          (a minute; no image is decoded)

The prototype search and the loader over 1, 2 and 4 times as many synthetic images, then 2,000 steps of a tiny training
run: seconds and memory of the process. Each in its own process, with its own caches.

``--stream`` makes that many images of 48 x 48 pixels, each its own, in shards of 1,000, and streams them through the
prototype search and 200 steps of training, then through ``segment``: seconds per 10,000 images in the first and the
last half, memory at the start, at 10 %, in the middle and at the end, how much it grew per 10,000 images in the last
half, and the peak. With ``--pretend`` the images have 32 x 32 pixels, and the networks are a random CLIP of two layers
and a student on it: what is tried is the way of a million images through the program, not a network.

``--entries`` walks through a set of that many entries, the same thousand images under many names: what opening,
counting and one pass over the samples cost in seconds and memory, and how soon a loader resumes in its middle.
"""

import argparse
import gc
import io
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clips4.utils.progress import NoProgress

SMALL = ["teacher.batch=16", "teacher.cache_files=shards", "train.steps=200", "train.save_every=200"]
SETTINGS = ["data.crop=32", "data.long_side=64", "regions.count=12", "student.width=16", "train.batch=4"]
PRETEND = ["teacher.batch=64", "teacher.templates=simple", "extensions.residual=true", "student.stride=16"]
PRETEND += ["data.inference_side=64", "regions.method=felzenszwalb", "regions.count=4"]


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


class Trace(NoProgress):
    """Memory and time while a stage goes on, about a hundred times.

    Args:
        images: of the whole stage.
        parts: that it reports, of ``images / parts`` each.
    """

    def __init__(self, images: int, parts: int):
        self._each, self._every = images / parts, max(1, parts // 100)
        self.stages: dict[str, list[tuple[float, float, float]]] = {}

    def stage(self, name: str, total: int) -> None:
        self._points: list[tuple[float, float, float]] = []
        self.stages[name], self._done = self._points, 0
        self._mark()

    def advance(self, values: dict[str, float]) -> None:
        self._done += 1
        if self._done % self._every == 0:
            self._mark()

    def _mark(self) -> None:
        self._points.append((self._done * self._each, resident(), time.perf_counter()))

    def line(self, name: str) -> str:
        """What the last half of a stage shows, compared with the first."""
        images, memory, clock = np.array(self.stages[name]).T
        half, tenth = len(images) // 2, len(images) // 10
        slope = np.polyfit(images[half:] / 10_000, memory[half:], 1)[0]
        first, last = ((clock[b] - clock[a]) / (images[b] - images[a]) * 10_000 for a, b in ((0, half), (half, -1)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        marks = " ".join(f"{memory[at]:.0f}" for at in (0, tenth, half, -1))
        return (
            f"{name}, {images[-1]:,.0f} images: {first:.1f} and {last:.1f} s per 10,000 images; MiB at the start, at "
            f"10, 50 and 100 %: {marks}, {slope:+.2f} per 10,000 images; peak {peak:.0f} MiB"
        )


def make_shards(folder: Path, count: int, side: int = 48) -> list[Path]:
    """Shards of 1,000 small JPEGs of colored areas, all of them different."""
    draw, paths = np.random.default_rng(0), []
    for first in range(0, count, 1000):
        paths.append(folder / f"{first // 1000:04}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            for number in range(first, min(count, first + 1000)):
                coarse = Image.fromarray(draw.integers(0, 256, (3, 4, 3), np.uint8))
                buffer = io.BytesIO()
                coarse.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG")
                member = tarfile.TarInfo(f"{number:07}.jpg")
                member.size = buffer.tell()
                buffer.seek(0)
                tar.addfile(member, buffer)
    return paths


def stream_training(count: int, folder: Path) -> None:
    """Prototypes of a set in shards, and 200 steps of training on it."""
    from clips4.config import load_config
    from clips4.data.class_names import load_classes
    from clips4.training.loop import train

    trace, steps = Trace(count, count), Trace(800, 200)
    shards = sorted(folder.glob("*.tar"))

    class Both(NoProgress):
        def stage(self, name: str, total: int) -> None:
            self.trace = steps if name == "training" else trace
            self.trace.stage(name, total)

        def advance(self, values: dict[str, float]) -> None:
            self.trace.advance(values)

    pretend = [*PRETEND, f"teacher.name={folder / 'clip'}"] if (folder / "clip").exists() else []
    config = load_config("cpu", [*SETTINGS, *SMALL, *pretend])
    train(shards, load_classes("cat,cup,grass"), config, folder / "run", device="cpu", progress=Both(), report=False)
    print(trace.line("encoding images"), flush=True)
    memory = [point[1] for point in steps.stages["training"]]
    print(f"training, 200 steps: {memory[len(memory) // 2]:.0f} MiB in the middle, {memory[-1]:.0f} at the end")


def stream_segment(count: int, folder: Path) -> None:
    """Segment the shards into shards."""
    from clips4.inference.jobs.load import TeacherOptions, load_segmenter
    from clips4.inference.jobs.segment import segment_files
    from clips4.inference.video.temporal_smoothing import Steadiness

    shards = sorted(folder.glob("*.tar"))
    trace = Trace(count, len(shards))
    loaded = load_segmenter([folder / "run", *shards], None, "cpu", TeacherOptions())
    out = folder / "out/{shard}.tar"
    segment_files(loaded, out, None, "png,json", "prototypes", True, None, Steadiness(0), False, trace)
    print(trace.line("segmenting shards"), flush=True)


def entries(count: int, folder: Path) -> None:
    """Open, count and read a set in shards, undecoded; processor time."""
    from clips4.data.image_source import open_source
    from clips4.data.shards.stream import read_forever, read_once

    (one,) = make_shards(folder, 1000)
    shards = [folder / f"set/{number:06}.tar" for number in range(count // 1000)]
    shards[0].parent.mkdir()
    for shard in shards:
        shard.hardlink_to(one)
    before, started = resident(), time.process_time()
    source = open_source(shards)
    estimated, _ = source.sizes()
    print(f"opened and counted, about {estimated:,} images: {time.process_time() - started:.1f} s", flush=True)
    names, started, marks = list(map(str, shards)), time.process_time(), [f"{before:.0f}"]
    for number, _ in enumerate(read_once(names, 0, 1), 1):
        if number in (count // 10, count // 2, count):
            marks.append(f"{resident():.0f}")
    seconds = time.process_time() - started
    print(f"read once, {number:,} images: {seconds:.0f} s, MiB at the start, at 10, 50 and 100 %: {' '.join(marks)}")
    started = time.process_time()
    next(read_forever(names, 0, 0, 2, skip=count // 4))
    print(
        f"resumed in the middle of an epoch of 2 readers: {time.process_time() - started:.1f} s, {resident():.0f} MiB"
    )


def training(steps: int, folder: Path) -> None:
    """A tiny training, its memory at every tenth of the way."""
    from kills import make_images

    from clips4.config import load_config
    from clips4.data.class_names import load_classes
    from clips4.training.loop import train

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
    parser.add_argument("--stream", type=int, metavar="IMAGES", help="stream that many images in shards instead")
    parser.add_argument("--pretend", action="store_true", help="with --stream: smaller images, and tiny networks")
    parser.add_argument("--entries", type=int, metavar="COUNT", help="walk through that many undecoded images instead")
    parser.add_argument("--only", nargs=2, metavar=("WHAT", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        works = (prototypes, loader, training, stream_training, stream_segment, entries)
        work = next(work for work in works if work.__name__ == arguments.only[0])
        with tempfile.TemporaryDirectory() as temporary:
            work(int(arguments.only[1]), arguments.folder or Path(temporary))
        return
    if arguments.stream:
        with tempfile.TemporaryDirectory() as temporary:
            os.environ["CLIPS4_CACHE"] = f"{temporary}/cache"
            make_shards(Path(temporary), arguments.stream, 32 if arguments.pretend else 48)
            if arguments.pretend:
                sys.path.append(str(Path(__file__).parents[1]))
                from tests.models.teachers.models import write_clip

                write_clip(Path(temporary) / "clip", patch=16)
            for what in ("stream_training", "stream_segment"):
                command = [sys.executable, __file__, "--only", what, str(arguments.stream), "--folder", temporary]
                subprocess.run(command, check=True)
        return
    if arguments.entries:
        command = [sys.executable, __file__, "--only", "entries", str(arguments.entries)]
        subprocess.run(command, check=True)
        return
    wanted = [(what, count * factor) for what, count in (("prototypes", 2500), ("loader", 400)) for factor in (1, 2, 4)]
    for what, count in [*wanted, ("training", arguments.steps)]:
        command = [sys.executable, __file__, "--only", what, str(count)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
