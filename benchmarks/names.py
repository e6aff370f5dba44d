"""File and class names that attack a terminal, a page or a folder, in every command that prints or writes names.

    python benchmarks/names.py --out runs/names

Trains a small run on images with such names and gives it to the other commands. A line of the table is one command: its
exit code, and whether a raw control or direction character reached the terminal, a page holds markup of a name, or a
file lies outside the folders that were asked for. Exits with 1 if any did.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from clips4.cli.app import app
from clips4.cli.shell import run

FILES = (
    "a\x1b[31mred.png",
    "b\r\nclips4: forged.png",
    "c\u202egpj.png",
    "<script>alert(1)<\\script>.png",
    "${HOME}`id`$(id).png",
    "...png",
    "'\"><img src=x onerror=alert(1)>.png",
    os.fsdecode(b"caf\xe9\x9b2J.png"),
    "--out.png",
)
CLASSES = ("<script>alert(1)</script>", "${jndi:x}", "../../up", "'\\\"><img src=x onerror=alert(1)>")
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
MARKUP = ("<script>alert", "<img src=x")
TRAINING = (
    *("data.crop=64", "data.long_side=96", "regions.count=6", "student.width=16", "segments.clusters=4"),
    *("prototypes.unknown=2", "prototypes.m=8", "student.frozen=false"),
    *("train.batch=2", "train.steps=2", "train.warmup=1"),
)


class Outcome(NamedTuple):
    """What a command did.

    Attributes:
        code: its exit code.
        raw: lines of its output with raw characters, or that a name forged.
        pages: pages with markup or raw characters of a name.
        stray: files and folders beside those that were asked for.
    """

    code: int
    raw: list[str]
    pages: list[str]
    stray: list[str]

    @property
    def sound(self) -> bool:
        """Whether no name had an effect."""
        return not (self.raw or self.pages or self.stray)


def write_inputs(folder: Path) -> None:
    """``images``, ``frames`` with ``truth/frames``, ``labels`` by labelme, ``classes.txt``: all with hostile names."""
    for name in ("images", "frames", "truth/frames", "labels"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    shape = {"points": [[5, 5], [60, 5], [60, 60]], "shape_type": "polygon"}
    for name in FILES:
        image = Image.fromarray(random.integers(0, 256, (72, 96, 3), np.uint8))
        for place in ("images", "frames", "labels"):
            image.save(folder / place / name, "PNG")
        mask = np.zeros((72, 96), np.uint8)
        mask[20:50, 30:60] = 1
        Image.fromarray(mask).save(folder / "truth/frames" / name, "PNG")
        shapes = [{**shape, "label": label} for label in ("${jndi:x}", "cat", "x\x1b[31m\n")]
        stored = {"version": "5", "imagePath": name, "imageHeight": 72, "imageWidth": 96, "shapes": shapes}
        (folder / "labels" / f"{name[:-4]}.json").write_text(json.dumps(stored))
    (folder / "images" / "broken\x1b]0;t\x07.png").write_text("no image")
    (folder / "classes.txt").write_text("".join(f'"{name}"\n' for name in CLASSES))


def commands(folder: Path, trained: Path) -> dict[str, list[str]]:
    """The commands by name; each writes below ``folder/out``."""
    images, out = str(folder / "images"), folder / "out"
    kinds = "png,overlay,json,coco,coco-polygons,panoptic,yolo,labelme,cvat,npz,gallery"
    given, frames, method = str(trained), str(folder / "frames"), ("--method", "gradient-ucm")
    mask = str(folder / "truth/frames" / FILES[5])
    return {
        "segment": ["segment", given, images, "--out", f"{out}/segment", "--save", kinds],
        "cluster": ["cluster", given, images, "--out", f"{out}/cluster", "--k", "3", "--save", "png,json,coco,gallery"],
        "unknown": ["unknown", given, images, "--out", f"{out}/unknown"],
        "regions": ["regions", images, "--out", f"{out}/regions", "--save", "png,overlay,page", *method],
        "track": ["track", given, frames, "--mask", mask, "--out", f"{out}/track/frames", "--no-video"],
        "score": ["score", "tracking", "--pred", f"{out}/track", "--gt", str(folder / "truth")],
        "labels": ["evaluate", "labels", given, "--labels", str(folder / "labels")],
        "export": ["export", given, "--out", f"{out}/e\x1b[31m.onnx"],
        "publish": ["publish", given, "--out", f"{out}/pub\x1b[3m"],
    }


def check(arguments: Sequence[str], folder: Path) -> Outcome:
    """Run a command in this process, and look at what it printed and wrote."""
    before = {path for path in folder.rglob("*") if "out" not in path.relative_to(folder).parts[:1]}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = run(app, list(arguments))
    raw = [line for line in printed.getvalue().split("\n") if RAW.search(line) or line.startswith("clips4: forged")]
    pages = []
    for path in folder.rglob("*.html"):
        text = path.read_text(errors="surrogateescape")
        if RAW.search(text.replace("\r", "").replace("\t", "")) or any(each in text for each in MARKUP):
            pages.append(str(path))
    after = {path for path in folder.rglob("*") if "out" not in path.relative_to(folder).parts[:1]}
    return Outcome(code, raw, pages, sorted(str(path) for path in after - before))


def main() -> int:
    """Train, run every command, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/names"))
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    write_inputs(out)
    overrides = [part for each in TRAINING for part in ("--set", each)]
    train = ["train", str(out / "images"), "--classes", str(out / "classes.txt"), "--out", str(out / "out/run")]
    todo = {"train": [*train, "--preset", "cpu", *overrides]} | commands(out, out / "out/run")
    print("| command | exit code | names |\n|---|---:|---|")
    sound = True
    for name, arguments in todo.items():
        found = check(arguments, out)
        sound &= found.sound
        print(f"| {name} | {found.code} | {'no effect' if found.sound else ascii(found[1:])} |", flush=True)
    return 0 if sound else 1


if __name__ == "__main__":
    raise SystemExit(main())
