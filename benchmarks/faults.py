"""Kill `clips4 segment` with SIGKILL at random moments; the folder that is finished has to equal an unbroken one.

    python benchmarks/faults.py RUN --kills 50          (some ten minutes on two cores)

The command is started again and again with the same output folder, and killed at a moment around its first images, so
that it advances by a few images each time; then it runs to its end. Every file is compared byte for byte, and
nothing hidden may be left but the manifest.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = "png,overlay,json,coco,npz,gallery"


def make_images(folder: Path, count: int) -> None:
    """Coarse random colors, enlarged."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (3, 4, 3), np.uint8))
        coarse.resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")


def start(run: Path, images: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the command."""
    command = [sys.executable, "-m", "clips4", "segment", str(run), str(images), "--out", str(out), "--save", KINDS]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(run: Path, images: Path, out: Path) -> float:
    """Run the command to its end; returns its seconds."""
    began = time.perf_counter()
    if code := start(run, images, out).wait():
        raise SystemExit(f"clips4 segment ended with exit code {code}")
    return time.perf_counter() - began


def digests(out: Path) -> dict[str, str]:
    """Name -> digest of all files; the manifest holds paths of its own folder's inputs alone, so it is compared too."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def main() -> None:
    """Run once unbroken, then kill many times and finish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        images, whole, broken = (Path(temporary) / name for name in ("images", "whole", "broken"))
        make_images(images, arguments.images)
        began = time.time()
        seconds = finish(arguments.run, images, whole)
        print(f"unbroken: {seconds:.1f} s, {len(digests(whole))} files", flush=True)
        moments = random.Random(arguments.seed)
        first = min(path.stat().st_mtime for path in whole.glob("*.npz")) - began
        step = (seconds - first) / arguments.kills
        for number in range(arguments.kills):
            child = start(arguments.run, images, broken)
            time.sleep(moments.uniform(0.8 * first, first + 2 * step))
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            done = sum(1 for _ in broken.glob("*.npz")) if broken.exists() else 0
            print(f"kill {number + 1}: {done} of {arguments.images} images done", flush=True)
        finish(arguments.run, images, broken)
        ours, theirs = digests(broken), digests(whole)
        different = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        print(f"{len(theirs)} files, {len(different)} different after {arguments.kills} kills {different[:5]}")
        if different:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
