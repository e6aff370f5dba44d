"""Break the commands in every way that a machine breaks; a second run has to complete what the first one left.

    python benchmarks/faults.py RUN                                    (all kinds; half an hour on two cores)
    python benchmarks/faults.py RUN --kind kills --commands segment --kills 50
    python benchmarks/faults.py RUN --kind disk,readonly               (mount small file systems: as root)

| kind | what is done | what has to follow |
|---|---|---|
| kills | SIGKILL at random moments, then a run to the end | the same files as unbroken, byte for byte |
| terms | SIGTERM at a random moment | exit code 130 and "stopped"; then as above |
| disk | a file system that is too small; then a larger one | exit code 2, one line that says so; then as above |
| readonly | a read-only file system | exit code 2, one line that names the path |
| handles | 24, then 40 open files at most | the result, or one line |
| pipes | a reader that closes standard output after one line | no traceback |
| workers | SIGKILL of a worker of the region pool, of a loader | exit code 2, one line; the second run completes it |
| twice | two commands into one folder, two trainings into one run | one ends well, the other has exit code 2 |
| home | a user without name and home folder | one line that names CLIPS4_CACHE; with it, the result |
| clock | inputs, outputs and leftovers from the future and from 1980 | the same files; nothing is done twice |
| bombs | 100 bombs among 100 images | all 100 images, in bounded memory and time |

Each line of the table that is printed is a case. Nothing hidden but the manifest may be left in an output folder.
"""

import argparse
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

TRAINING = "train.steps=6 train.batch=2 train.save_every=2 data.crop=64 data.long_side=96 prototypes.unknown=2"


class Outcome(NamedTuple):
    """A line of the table."""

    case: str
    fine: bool
    note: str


@dataclass(frozen=True)
class Bench:
    """Where everything happens.

    Attributes:
        run: a trained run.
        folder: a temporary folder with ``images`` and ``mask.png``.
        commands: which of ``arguments`` to try.
        kills: of each command.
        moments: when.
    """

    run: Path
    folder: Path
    commands: list[str]
    kills: int
    moments: random.Random

    def arguments(self, command: str, out: Path) -> list[str | Path]:
        """A command line that writes to ``out``."""
        images = self.folder / "images"
        lines: dict[str, list[str | Path]] = {
            "segment": [self.run, images, "--out", out, "--save", "png,overlay,json,coco,npz,gallery"],
            "cluster": [self.run, images, "--out", out, "--save", "png,json,coco", "--k", "4"],
            "regions": [images, "--out", out, "--save", "png,overlay", "--count", "20", "--workers", "2"],
            "track": [self.run, images, "--mask", self.folder / "mask.png", "--out", out, "--side", "96"],
            "export": [self.run, "--out", out / "a.onnx"],
            "publish": [self.run, "--out", out / "published"],
            "train": [images, "--classes", "cat,dog", "--out", out, "--no-report", *self._training(out)],
        }
        return lines[command]

    def _training(self, out: Path) -> list[str]:
        settings = [part for setting in TRAINING.split() for part in ("--set", setting)]
        return [*settings, *(["--resume"] if (out / "checkpoints").exists() else [])]

    def start(self, command: str, out: Path, before: Sequence[str] = (), **options: Any) -> subprocess.Popen[str]:
        """Start a command; ``before`` is a program that starts it."""
        line = [*before, sys.executable, "-m", "clips4", command, *map(str, self.arguments(command, out))]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)

    def finish(self, command: str, out: Path, before: Sequence[str] = (), **options: Any) -> tuple[int, str]:
        """Run a command to its end; its exit code and what it printed."""
        process = self.start(command, out, before, **options)
        printed = process.communicate()[0].strip()
        return process.returncode, printed

    def complete(self, command: str, out: Path, whole: dict[str, str], note: str = "") -> Outcome:
        """Run a command to its end and compare its files with those of an unbroken run."""
        code, printed = self.finish(command, out)
        ours = digests(out)
        different = sorted(name for name in ours.keys() | whole.keys() if ours.get(name) != whole.get(name))
        told = f"{len(whole)} files, {len(different)} different {different[:3] or ''}" if not code else last(printed)
        return Outcome(command, not code and not different, f"{note}; {told}".strip("; "))

    def whole(self, command: str) -> dict[str, str]:
        """Digests of the files of an unbroken run."""
        out = self.folder / f"whole-{command}"
        if not out.exists():
            code, printed = self.finish(command, out)
            if code:
                raise SystemExit(f"clips4 {command} ended with exit code {code}: {last(printed)}")
        return digests(out)


def make_images(folder: Path, count: int) -> None:
    """Coarse random colors, enlarged."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (3, 4, 3), np.uint8))
        coarse.resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{number:03}.png")


def digests(out: Path) -> dict[str, str]:
    """Name -> digest of all files; of a training only its weights and prototypes, which have no clock."""
    names = [path for path in sorted(out.rglob("*")) if path.is_file()]
    if (out / "checkpoints").exists():
        names = [path for path in names if path.suffix == ".safetensors" or ".part" in path.name]
    found = {}
    for path in names:
        with suppress(FileNotFoundError):  # a running command renames its files
            found[str(path.relative_to(out))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def last(printed: str) -> str:
    """The last line that a command printed."""
    return (printed.splitlines() or ["nothing"])[-1]


def is_one_line(printed: str) -> bool:
    """Whether a command ended with its own error, and no traceback."""
    return last(printed).startswith("clips4: ") and "Traceback" not in printed and "internal error" not in printed


# ----------------------------------------------------------------------------------------------------- the kinds


def kills(bench: Bench) -> Iterator[Outcome]:
    for command in bench.commands:
        whole = bench.whole(command)
        out, total, done = bench.folder / f"killed-{command}", len(whole), []
        began = time.monotonic()
        bench.finish(command, bench.folder / f"timed-{command}")
        seconds = time.monotonic() - began
        for number in range(bench.kills):
            process = bench.start(command, out)
            # a share of all files further with each kill; the rest is chance
            enough, end = (
                total * (number + 1) / (bench.kills + 2),
                time.monotonic() + bench.moments.uniform(0.3, 1) * seconds,
            )
            while process.poll() is None and time.monotonic() < end and len(digests(out)) < enough:
                time.sleep(0.02)
            time.sleep(bench.moments.uniform(0, 0.1))
            unfinished = process.poll() is None
            process.kill()
            process.communicate()
            done.append(unfinished)
        yield bench.complete(command, out, whole, f"{sum(done)} of {bench.kills} kills before the end")


def terms(bench: Bench) -> Iterator[Outcome]:
    for command in bench.commands:
        whole, out = bench.whole(command), bench.folder / f"stopped-{command}"
        process = bench.start(command, out)
        while process.poll() is None and len(digests(out)) < max(1, len(whole) // 4):
            time.sleep(0.02)
        process.terminate()
        printed = process.communicate()[0]
        fine = process.returncode in (0, 130) and "Traceback" not in printed
        outcome = bench.complete(command, out, whole, f"exit code {process.returncode}: {last(printed)}")
        yield outcome._replace(fine=outcome.fine and fine)


def disk(bench: Bench) -> Iterator[Outcome]:
    for command in bench.commands:
        whole = bench.whole(command)
        size = sum(path.stat().st_size for path in (bench.folder / f"whole-{command}").rglob("*") if path.is_file())
        place = bench.folder / f"small-{command}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={max(4096, size // 3)}", "tmpfs", place], check=True)
        try:
            out = place / "out"
            code, printed = bench.finish(command, out)
            fine = code == 2 and is_one_line(printed) and "space" in last(printed)
            subprocess.run(["mount", "-o", f"remount,size={10 * size + 2**26}", place], check=True)
            outcome = bench.complete(command, out, whole, f"exit code {code}: {last(printed)}")
        finally:
            subprocess.run(["umount", place], check=True)
        yield outcome._replace(fine=outcome.fine and fine)


def readonly(bench: Bench) -> Iterator[Outcome]:
    place = bench.folder / "readonly"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", place], check=True)
    try:
        for command in bench.commands:
            for out in (place, place / "out"):
                code, printed = bench.finish(command, out)
                fine = code == 2 and is_one_line(printed) and str(place) in last(printed)
                yield Outcome(command, fine, f"exit code {code}: {last(printed)}")
    finally:
        subprocess.run(["umount", place], check=True)


def handles(bench: Bench) -> Iterator[Outcome]:
    for command in bench.commands:
        for limit in (24, 40):
            out = bench.folder / f"handles-{command}-{limit}"
            # "ulimit" of a shell, since a limit set before exec would hold for this process, too
            code, printed = bench.finish(
                command, out, preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            )
            fine = code == 0 or (code == 2 and is_one_line(printed))
            outcome = bench.complete(command, out, bench.whole(command), f"{limit} files: {code}: {last(printed)}")
            yield outcome._replace(fine=outcome.fine and fine)


def pipes(bench: Bench) -> Iterator[Outcome]:
    out, run = bench.folder / "piped", bench.run
    for line in (
        "--help",
        "segment --help",
        "doctor --json",
        f"segment {run} {bench.folder / 'images'} --out {out} --save png --json",
        f"regions {bench.folder / 'images'} --count 8 --json",
    ):
        shell = f"set -o pipefail; {sys.executable} -m clips4 {line} | head -1"
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
        fine = "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
        yield Outcome(f"{line.split()[0]} | head -1", fine, f"exit code {done.returncode}; {last(done.stderr)}")


def workers(bench: Bench) -> Iterator[Outcome]:
    for command, options in (("regions", ["--workers", "2"]), ("train", ["--set", "data.workers=2"])):
        out = bench.folder / f"worker-{command}"
        line = [sys.executable, "-m", "clips4", command, *map(str, bench.arguments(command, out)), *options]
        line += ["--set", "train.steps=400"] if command == "train" else []
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        sign = "log.jsonl" if command == "train" else ".clips4/*.json"
        victims: list[int] = []
        while process.poll() is None and not (victims and any(out.glob(sign))):
            time.sleep(0.05)
            victims = [leaf for leaf in _leaves(process.pid) if leaf != process.pid]
        for victim in victims[:1]:
            os.kill(victim, signal.SIGKILL)
        printed = process.communicate()[0]
        fine = bool(victims) and process.returncode == 2 and is_one_line(printed) and "worker" in last(printed)
        note = f"exit code {process.returncode}: {last(printed)}"
        if command == "train":
            yield Outcome(command, fine, note)
        else:
            outcome = bench.complete(command, out, bench.whole(command), note)
            yield outcome._replace(fine=outcome.fine and fine)


def _leaves(process: int, depth: int = 0) -> list[int]:
    """Processes below one that have none below them, but not Python's own: its tracker and its server of forks."""
    below = [
        int(child) for tasks in Path(f"/proc/{process}/task").glob("*/children") for child in tasks.read_text().split()
    ]
    if not below:
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        # what the server forks has its command line, too, but lies below it
        own = b"resource_tracker" in command or (depth == 1 and b"forkserver" in command)
        return [] if own else [process]
    return [leaf for child in below for leaf in _leaves(child, depth + 1)]


def twice(bench: Bench) -> Iterator[Outcome]:
    for command in bench.commands:
        out = bench.folder / f"twice-{command}"
        first = bench.start(command, out)
        second = bench.start(command, out)
        printed = [process.communicate()[0].strip() for process in (first, second)]
        codes = sorted((first.returncode, second.returncode))
        refused = [text for text in printed if "is writing there" in text]
        outcome = bench.complete(
            command, out, bench.whole(command), f"exit codes {codes}: {last((refused or printed)[0])}"
        )
        yield outcome._replace(fine=outcome.fine and codes == [0, 2] and len(refused) == 1)


def home(bench: Bench) -> Iterator[Outcome]:
    place = bench.folder / "nobody"
    place.mkdir(mode=0o777)
    bench.folder.chmod(0o755)
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "CLIPS4_CACHE")
    }
    user = "setpriv --reuid=23456 --regid=23456 --clear-groups --inh-caps=+dac_override --ambient-caps=+dac_override"
    for cache in ("", str(place / "cache")):
        env = {**environment, **({"CLIPS4_CACHE": cache} if cache else {})}
        code, printed = bench.finish("regions", place / "out", user.split(), env=env)
        fine = code == 0 if cache else code == 2 and "CLIPS4_CACHE" in last(printed)
        yield Outcome("regions", fine, f"{'with' if cache else 'without'} CLIPS4_CACHE: {code}: {last(printed)}")


def clock(bench: Bench) -> Iterator[Outcome]:
    images, out = sorted((bench.folder / "images").iterdir()), bench.folder / "clock"
    before = [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in images]
    try:
        for path, moment in zip(images, (4e9, 3e8, 4e9) * len(images), strict=False):
            os.utime(path, (moment, moment))
        code, printed = bench.finish("segment", out)
        first = digests(out)
        for path in out.rglob("*"):
            os.utime(path, (4e9, 4e9))
        (out / ".000.png.999999-deadbeef.part").touch()
        again, kept = bench.finish("segment", out)
        fine = (code, again) == (0, 0) and digests(out) == first and f"{len(images)} done before" in kept
        yield Outcome("segment", fine, f"{last(printed)} {last(kept)}")
    finally:
        for path, moments in zip(images, before, strict=True):
            os.utime(path, ns=moments)


def bombs(bench: Bench) -> Iterator[Outcome]:
    from fuzz_changes import png_of_zeros

    folder, out = bench.folder / "bombs", bench.folder / "defused"
    make_images(folder, 100)
    for number in range(100):
        bits, color = ((1, 0), (8, 2), (16, 0), (16, 6))[number % 4]
        side = 8400 + 40 * number
        (folder / f"bomb{number:03}.png").write_bytes(png_of_zeros(side, side, bits, color))
    began = time.monotonic()
    line = ["segment", str(bench.run), str(folder), "--out", str(out), "--save", "png,overlay"]
    process = subprocess.Popen(
        [sys.executable, "-m", "clips4", *line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    done = sum(1 for _ in out.glob("[0-9]*.png"))
    fine = os.waitstatus_to_exitcode(status) == 0 and done == 200 and usage.ru_maxrss < 2 << 20
    note = f"{done // 2} of 100 images, {time.monotonic() - began:.0f} s, peak {usage.ru_maxrss >> 10} MiB"
    yield Outcome("segment", fine, note)


KINDS: dict[str, tuple[Callable[[Bench], Iterator[Outcome]], str]] = {
    "kills": (kills, "segment,cluster,regions,track,export,publish"),
    "terms": (terms, "segment,cluster,regions,track,train"),
    "disk": (disk, "segment,cluster,regions,track,export,publish,train"),
    "readonly": (readonly, "segment,cluster,regions,track,export,publish,train"),
    "handles": (handles, "segment,regions,train"),
    "pipes": (pipes, ""),
    "workers": (workers, ""),
    "twice": (twice, "segment,regions,track,export,publish,train"),
    "home": (home, ""),
    "clock": (clock, ""),
    "bombs": (bombs, ""),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--kind", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--commands", help="which commands to break; by default all that a kind is for")
    parser.add_argument("--kills", type=int, default=5, help="of each command")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    failed = False
    print("| fault | command | survived | what was seen |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_images(folder / "images", given.images)
        mask = np.zeros((72, 96), np.uint8)
        mask[20:50, 30:60] = 1
        Image.fromarray(mask).save(folder / "mask.png")
        for kind in given.kind.split(","):
            break_it, commands = KINDS[kind]
            chosen = (given.commands or commands).split(",")
            for outcome in break_it(
                Bench(given.run.absolute(), folder, chosen, given.kills, random.Random(given.seed))
            ):
                failed |= not outcome.fine
                print(f"| {kind} | {outcome.case} | {'yes' if outcome.fine else 'NO'} | {outcome.note} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
