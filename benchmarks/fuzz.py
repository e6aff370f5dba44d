"""Changed files of every format: does each raise one typed error, or is it read, in time and memory?

    python benchmarks/fuzz.py --kind images --cases 20000 --out fuzz/          (an hour on one core)
    python benchmarks/fuzz.py --kind hostile --cases 300 --out fuzz/           (2,100 cases, some minutes)
    python benchmarks/fuzz.py --kind masks,exif,bombs,videos --cases 2000 --out fuzz/

A case is a seed file (``fuzz_seeds``, ``fuzz_model_seeds``) with a few changes (``fuzz_changes``) drawn from (--seed,
its kind, its number), so that it can be made again. It is read (``fuzz_readers``) in a worker process; one that hangs
or dies is replaced. The table counts six outcomes besides "fine": a typed error (what should be), another exception, a
hang, a peak of memory above the limit, a dead process, and an escape: a program started, a connection made, or a file
written outside the worker's folder, as Python's audit events show. Files of all outcomes but the first two are kept in
--out, with the error beside them.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import fuzz_changes as changes
import fuzz_model_seeds as model_seeds
import fuzz_readers as readers
import fuzz_seeds as seeds
import numpy as np
from fuzz_seeds import Seeds

SECONDS = 10.0  # of the processor; a worker that answers not at all is given PATIENCE times as long
PATIENCE = 60
MEMORY = 2 << 30  # bytes, of a worker's peak
ADDRESSES = 8 << 30  # bytes that a worker can reserve at all, so that none takes the machine's memory
FINE, TYPED, OTHER, HANG, LARGE, DEAD = "fine", "typed error", "other exception", "hang", "above 2 GiB", "dead process"
ESCAPE = "escape"
BAD = (OTHER, HANG, LARGE, DEAD, ESCAPE)
HOSTILE = ("presets", "classes", "shards", "safetensors", "states", "cards", "onnx", "folders")


class Kind(NamedTuple):
    """Files of one kind: sound ones, what reads them, and how they are changed."""

    seeds: Callable[[], Seeds]
    read: Callable[[Path], None]
    change: Callable[[bytes, bytes, np.random.Generator], bytes] = changes.mutate


KINDS = {
    "images": Kind(seeds.image_seeds, readers.read_image),
    "exif": Kind(seeds.exif_seeds, readers.read_whole_image, changes.with_exif),
    "bombs": Kind(seeds.image_seeds, readers.read_image, changes.enlarge),
    "masks": Kind(seeds.mask_seeds, readers.read_label_map),
    "arrays": Kind(seeds.array_seeds, readers.read_edges),
    "videos": Kind(seeds.video_seeds, readers.read_video),
    "presets": Kind(seeds.preset_seeds, readers.read_preset, changes.change_yaml),
    "classes": Kind(seeds.class_seeds, readers.read_classes),
    "shards": Kind(model_seeds.shard_seeds, readers.read_samples),
    "safetensors": Kind(seeds.safetensors_seeds, readers.read_tensors),
    "states": Kind(model_seeds.state_seeds, readers.read_state),
    "cards": Kind(model_seeds.card_seeds, readers.read_card, changes.change_json),
    "onnx": Kind(model_seeds.onnx_seeds, readers.read_onnx, changes.change_onnx),
    "folders": Kind(model_seeds.folder_seeds, readers.read_folder, changes.change_json),
}


# ---------------------------------------------------------------------------------------------------------- cases


def make_case(kind: str, sound: Seeds, seed: int, number: int) -> tuple[str, bytes]:
    """File name and content of a case."""
    draw = np.random.default_rng([seed, zlib.crc32(kind.encode()), number])
    first, second = (list(sound)[int(draw.integers(0, len(sound)))] for _ in range(2))
    return f"{number:06d}-{first}", KINDS[kind].change(sound[first], sound[second], draw)


# --------------------------------------------------------------------------------------------------------- workers


_RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn", "subprocess.Popen")
_CONNECTS = ("socket.connect", "socket.bind", "urllib.Request")
_WRITES = ("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def watch(folder: Path) -> list[str]:
    """List, from now on, what this process does beyond reading and writing in ``folder``; this cannot be undone."""
    found: list[str] = []
    allowed = (os.path.realpath(folder) + os.sep, "/dev/")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _RUNS or event in _CONNECTS:
            found.append(f"{event} {arguments!r}"[:200])
        if event not in _WRITES or (event == "open" and not arguments[2] & _TO_WRITE):
            return
        # of a link, only its own place is written
        for path in arguments[1:2] if event in ("os.link", "os.symlink") else arguments[: 1 + (event == "os.rename")]:
            if not isinstance(path, int) and not f"{os.path.realpath(os.fsdecode(path))}{os.sep}".startswith(allowed):
                found.append(f"{event} {path!r}"[:200])

    sys.addaudithook(hook)
    return found


def outcome_of(read: Callable[[Path], None], path: Path) -> tuple[str, str]:
    """What becomes of a file, and why; a typed error is one line that names the file."""
    from clips4.errors import UserError

    outcome, reason = FINE, ""
    begin = time.process_time()
    try:
        read(path)
    except UserError as error:
        reason = str(error)
        outcome = TYPED if path.name in reason and "\n" not in reason else OTHER
    except Exception as error:
        outcome, reason = OTHER, f"{type(error).__name__}: {error}"
    seconds = time.process_time() - begin
    return (HANG, f"{seconds:.0f} s; {reason}") if seconds > SECONDS else (outcome, reason)


def peak_memory() -> int:
    """Bytes of this program's peak. ``ru_maxrss`` would also count the program that started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def work(connection: Connection, kind: str, seed: int, memory: int) -> None:
    """Answer each case number with (outcome, reason); end after a peak above ``memory``, since a peak never falls."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff prints what it finds
    sound, read = KINDS[kind].seeds(), KINDS[kind].read
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"CLIPS4_CACHE": folder, "TMPDIR": folder, "HF_HUB_OFFLINE": "1"}
        os.chdir(folder)  # files without a folder are written here, too
        tempfile.tempdir = folder
        first = Path(folder, next(iter(sound)))
        first.write_bytes(sound[first.name])
        outcome_of(read, first)  # imports what it needs
        first.unlink()
        escapes, there = watch(Path(folder)), set(Path(folder).iterdir())
        connection.send(None)
        while (number := connection.recv()) is not None:
            name, data = make_case(kind, sound, seed, number)
            path = Path(folder, name)
            path.write_bytes(data)
            outcome, reason = outcome_of(read, path)
            path.unlink()
            if escapes or (left := set(Path(folder).iterdir()) - there):
                outcome, reason = ESCAPE, "; ".join(escapes or map(str, left))
                escapes.clear()
                there = set(Path(folder).iterdir())
            peak = peak_memory()
            if peak > memory:
                connection.send((LARGE, f"peak of {peak >> 20} MiB; {reason}"))
                return
            connection.send((outcome, reason))


def run_cases(kind: str, cases: int, seed: int, memory: int = MEMORY) -> Iterator[tuple[int, str, str]]:
    """Number, outcome and reason of each case."""
    context = multiprocessing.get_context("spawn")
    worker, connection = None, None
    for number in range(cases):
        if worker is None or connection is None:
            connection, theirs = context.Pipe()
            worker = context.Process(target=work, args=(theirs, kind, seed, memory), daemon=True)
            worker.start()
            theirs.close()
            connection.recv()  # it is ready
        connection.send(number)
        outcome, reason = DEAD, ""
        try:
            if connection.poll(PATIENCE * SECONDS):
                outcome, reason = connection.recv()
            else:
                outcome = HANG
        except EOFError:
            worker.join()
            reason = f"exit code {worker.exitcode}"
        if outcome in (HANG, LARGE, DEAD):
            worker.kill()
            worker.join()
            worker = None
        yield number, outcome, reason
    if worker is not None and connection is not None:
        connection.send(None)
        worker.join()


def fuzz(kind: str, cases: int, seed: int, out: Path) -> Counter[str]:
    """Run the cases of a kind, keep what is wrong in ``out``, and count outcomes."""
    sound = KINDS[kind].seeds()
    counts: Counter[str] = Counter()
    begin = time.monotonic()
    for number, outcome, reason in run_cases(kind, cases, seed):
        counts[outcome] += 1
        if outcome in BAD:
            name, data = make_case(kind, sound, seed, number)
            folder = out / kind / outcome.replace(" ", "-")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            (folder / f"{name}.reason").write_text(f"{reason}\n", "utf-8", "backslashreplace")
        if number % 1000 == 999:
            print(f"{kind}: {number + 1} cases, {time.monotonic() - begin:.0f} s, {dict(counts)}", file=sys.stderr)
    return counts


def table(results: dict[str, Counter[str]]) -> str:
    """The outcomes as a Markdown table."""
    columns = (FINE, TYPED, *BAD)
    lines = ["| kind | cases | " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) + 1)]
    for kind, counts in results.items():
        cells = [counts.total(), *(counts[column] for column in columns)]
        lines.append(f"| {kind} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kind", default=",".join(KINDS), help=f"of {', '.join(KINDS)}; or hostile: {', '.join(HOSTILE)}"
    )
    parser.add_argument("--cases", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="folder for files that are not handled well")
    options = parser.parse_args()
    kinds = options.kind.replace("hostile", ",".join(HOSTILE)).split(",")
    results = {kind: fuzz(kind, options.cases, options.seed, options.out) for kind in kinds}
    print(table(results))
    sys.exit(any(counts[outcome] for counts in results.values() for outcome in BAD))


if __name__ == "__main__":
    main()
