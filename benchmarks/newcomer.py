"""A newcomer's first hour, replayed: each command, what it prints, its exit code and its time, in one log.

    python benchmarks/newcomer.py --photos ../shared/data/photos --labeled ../shared/data/coco128 --out /tmp/hour

40 photographs without labels and six names; then new photographs, new words, a video, a score on eight small masks, an
export that runs without clips4, the page, and the tutorial notebook. Everything runs with the ``clips4`` of the Python
that runs this, in the folder ``--out``, which also gets ``log.txt``. Training has the defaults, 40 steps for 40
photographs; ``--steps`` cuts it shorter, and the log says so. ``--labeled`` is a copy of coco128; without it nothing is
scored.

Exit code 1 if a command fails.
"""

import argparse
import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import av
import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
NAMES = "person,car,tree,grass,sky,building"
WORDS = "bird,flower,boat,wall"
PHOTOGRAPHS, NEW, SCORED, FRAMES = 40, 6, 8, 12
_SHOWN = 8  # names of a folder's files
SHIFT = 6  # pixels by which the clip's window moves from frame to frame


class Hour:
    """The log, and how every command ended."""

    def __init__(self, folder: Path):
        self.folder, self.ended = folder, list[tuple[str, int, float]]()
        self.file = (folder / "log.txt").open("w", encoding="utf-8")
        scripts = Path(sys.executable).parent
        self.environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "110"}
        self.environment |= {"CLIPS4_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}

    def write(self, text: str = "") -> None:
        """A line to the terminal and to the log."""
        print(text, flush=True)
        self.file.write(f"{text}\n")
        self.file.flush()

    def step(self, title: str, why: str) -> None:
        """The head of a part of the hour."""
        self.write(f"\n{'=' * 100}\n{title}\n{why}\n")

    def run(self, *parts: str | Path, expected: int = 0, place: str = ".") -> None:
        """Run a command in the folder, or in one below it."""
        with self.started(*parts, place=place) as process:
            assert process.stdout
            for line in process.stdout:
                self.write(f"    {line.rstrip()}")
        self.end(process, expected)

    def started(self, *parts: str | Path, place: str = ".") -> "subprocess.Popen[str]":
        """A command that runs; its output and its errors are one stream, as on a terminal."""
        self.line, self.begun = shlex.join(map(str, parts)), time.monotonic()
        self.write(f"$ {self.line}{'' if place == '.' else f'    (in {place}/)'}")
        return subprocess.Popen(
            [str(part) for part in parts],
            cwd=self.folder / place,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def end(self, process: "subprocess.Popen[str]", *expected: int) -> None:
        """Log how a command ended."""
        code, seconds = process.wait(), time.monotonic() - self.begun
        self.ended.append((self.line, 0 if code in expected else code or 1, seconds))
        self.write(f"[exit code {code}, {seconds:.1f} s]\n")

    def show(self, name: str) -> None:
        """What lies in a folder that a command wrote."""
        names = (path.name for path in (self.folder / name).iterdir() if path.name[0] != ".")
        found = sorted(names, key=lambda each: (each[0].isdigit(), each))  # those of images last
        self.write(
            f"{name}/ has {', '.join(found[:_SHOWN])}{f' and {len(found) - _SHOWN} more' * (len(found) > _SHOWN)}"
        )

    def close(self) -> int:
        """The table of all commands; the exit code."""
        self.step("All commands", "Seconds and exit code of each.")
        for line, code, seconds in self.ended:
            self.write(f"{seconds:8.1f} s  {'ok' if code == 0 else f'FAILED ({code})':12} {line[:110]}")
        failed = sum(code != 0 for _, code, _ in self.ended)
        total = sum(seconds for _, _, seconds in self.ended)
        self.write(f"\n{len(self.ended)} commands, {failed} failed, {total / 60:.1f} minutes.")
        self.file.close()
        return int(failed > 0)


def copy_photographs(source: Path, folder: Path) -> list[Path]:
    """``photos/`` to train on and ``new/`` that training does not see; the new ones."""
    found = sorted(path for path in source.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if len(found) < PHOTOGRAPHS + NEW:
        sys.exit(f"{source}: {len(found)} photographs; the hour needs {PHOTOGRAPHS + NEW}")
    for name, paths in (("photos", found[:PHOTOGRAPHS]), ("new", found[PHOTOGRAPHS : PHOTOGRAPHS + NEW])):
        (folder / name).mkdir()
        for path in paths:
            shutil.copy(path, folder / name)
    return sorted((folder / "new").iterdir())


def make_clip(photograph: Path, folder: Path) -> None:
    """``clip.mp4``: a window that slides over a photograph; ``first.png``: a square of its first frame is object 1."""
    image = Image.open(photograph).convert("RGB")
    width, height = ((length - SHIFT * FRAMES * (axis == 0)) // 2 * 2 for axis, length in enumerate(image.size))
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(FRAMES):
            frame = image.crop((SHIFT * number, 0, SHIFT * number + width, height))
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 3 : width // 2] = 1
    Image.fromarray(mask).save(folder / "first.png")


def make_labels(coco: Path, names: list[str], folder: Path) -> None:
    """``my_labels/``: images, label maps with the places of the names, and ``classes.txt``, as one draws them."""
    values = yaml.safe_load((coco / "classes.yaml").read_text("utf-8"))["classes"]
    table = np.full(256, 255, np.uint8)
    for value, name in values.items():
        if (short := name.split("-")[0]) in names:
            table[value] = names.index(short)
    shown = []
    for path in sorted((coco / "masks").glob("*.png")):
        labels = table[np.asarray(Image.open(path))]
        shown.append((len(np.unique(labels)), path.stem, labels))
    for part in ("images", "labels"):
        (folder / "my_labels" / part).mkdir(parents=True)
    for _, stem, labels in sorted(shown, key=lambda each: (-each[0], each[1]))[:SCORED]:
        shutil.copy(coco / f"images/{stem}.jpg", folder / "my_labels/images")
        Image.fromarray(labels).save(folder / f"my_labels/labels/{stem}.png")
    (folder / "my_labels/classes.txt").write_text("\n".join(names) + "\n")


def write_notebook(source: Path, target: Path) -> None:
    """A notebook as a program that shows the value of each cell's last line, as a notebook does."""
    parts = []
    for cell in json.loads(source.read_text("utf-8"))["cells"]:
        body = ast.parse("".join(cell["source"])).body if cell["cell_type"] == "code" else []
        if body and isinstance(last := body[-1], ast.Expr):
            body[-1] = ast.parse(f"print(repr({ast.unparse(last.value)}))").body[0]
        parts += [ast.unparse(node) for node in body]
    target.write_text("\n".join(parts) + "\n", "utf-8")


def call_page(hour: Hour) -> None:
    """Start the page, ask it about the run as its own JavaScript does, and stop it as Ctrl-C does."""
    with hour.started("clips4", "serve", "run", "new", "--port", "0", "--no-browser") as server:
        assert server.stdout
        found: re.Match[str] | None = None
        for line in server.stdout:
            hour.write(f"    {line.rstrip()}")
            found = re.search(r"(http://\S+)/\?token=(\S+)", line) or found
            if found and "Ctrl-C" in line:
                session = post(f"{found[1]}/api/session", {"token": found[2]})["session"]
                about = post(f"{found[1]}/api/about", None, session)
                hour.write(f"    (GET /api/about says {json.dumps(about)[:100]} ...; now Ctrl-C)")
                server.send_signal(signal.SIGINT)
    hour.end(server, 130, 0)  # 130: stopped by Ctrl-C


def post(address: str, body: dict[str, str] | None, session: str = "") -> dict[str, str]:
    """The JSON that the page's server replies; GET without a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Authorization": f"Bearer {session}"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return dict(json.load(reply))


def main() -> int:
    """Replay the hour; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help=f"a folder of at least {PHOTOGRAPHS + NEW} of them")
    parser.add_argument("--labeled", type=Path, help="a copy of coco128: images/, masks/, classes.yaml")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--names", default=NAMES, help="six class names")
    parser.add_argument("--steps", type=int, help="of training; by default what clips4 chooses")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True)
    first, *_ = copy_photographs(options.photos, out)
    make_clip(first, out)
    (out / "notebook").mkdir()  # it has photographs of its own
    write_notebook(ROOT / "docs/tutorial/notebooks/tutorial.ipynb", out / "notebook/tutorial.py")
    hour = Hour(out)
    short = ["--set", f"train.steps={options.steps}"] if options.steps else []
    hour.write(f"A newcomer's hour: {PHOTOGRAPHS} photographs, the names {options.names}, {time.strftime('%Y-%m-%d')}.")
    if short:
        hour.write(f"Training is cut short to {options.steps} steps: see what happens, not how good the labels are.")

    hour.step("1. What is installed", "Versions, devices, weights, and what is missing for which command.")
    hour.run("clips4", "doctor")
    hour.step("2. Train", "On photographs without labels, and class names.")
    hour.run("clips4", "train", "photos", "--classes", options.names, "--out", "run", *short)
    hour.step("3. New photographs", "By the names of the run; a gallery to look at, and COCO for other tools.")
    hour.run("clips4", "segment", "run", "new", "--out", "segmented", "--save", "png,overlay,json,coco,gallery")
    hour.show("segmented")
    hour.step("4. New words", "Names that training never saw.")
    hour.run("clips4", "segment", "run", "new", "--classes", WORDS, "--out", "words")
    hour.step("5. A video", f"{FRAMES} frames: segmented, and an object of the first frame followed.")
    hour.run("clips4", "segment", "run", "clip.mp4", "--out", "video")
    hour.run("clips4", "track", "run", "clip.mp4", "--mask", "first.png", "--out", "tracked")
    hour.show("video")
    hour.show("tracked")
    hour.step("6. A score", f"On {SCORED} images with small masks of one's own.")
    if options.labeled:
        make_labels(options.labeled, options.names.split(","), out)
        hour.run("clips4", "evaluate", "labels", "run", "--labels", "my_labels")
    else:
        hour.write("left out: no --labeled")
    hour.step("7. Export", "To ONNX, with the text encoder; then a prediction without clips4, and one with it.")
    hour.run("clips4", "export", "run", "--out", "run.onnx", "--text")
    plain = ROOT / "examples/onnx_plain.py"
    hour.run("python", plain, "run.onnx", first.relative_to(out), "plain.png", "--classes", WORDS)
    hour.run("clips4", "segment", "run.onnx", "new", "--out", "by_onnx")
    hour.step("8. The page", "To type names and click; one call of its API.")
    call_page(hour)
    hour.step("9. The notebook", "docs/tutorial/notebooks/tutorial.ipynb, cell by cell.")
    hour.run("python", "tutorial.py", place="notebook")
    hour.step("10. A mistake", "What an error looks like: run and images swapped. Exit code 2 is right here.")
    hour.run("clips4", "segment", "new", "run", "--out", "swapped", expected=2)
    return hour.close()


if __name__ == "__main__":
    sys.exit(main())
