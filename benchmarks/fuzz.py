"""Mutated files of every format: does each raise one typed error, or is it read, in time and memory?

    python benchmarks/fuzz.py --kind images --cases 20000 --out fuzz/          (an hour on one core)
    python benchmarks/fuzz.py --kind masks,arrays,videos,presets,classes,shards,safetensors --cases 5000 --out fuzz/

A case is a seed file with a few changes drawn from (--seed, its kind and number), so that it can be made again: changed
bits, bytes and numbers, blocks cut out, repeated, swapped in from another seed, an end that is missing. Each runs in a
worker process; one that hangs or dies is replaced. The table counts five outcomes besides "fine": a typed error (what
should be), another exception, a hang, a peak of memory above the limit, a dead process. Files of all outcomes but
the first two are kept in --out, with the error beside them.
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

import numpy as np
from fuzz_seeds import (
    Seeds,
    array_seeds,
    class_seeds,
    image_seeds,
    mask_seeds,
    preset_seeds,
    safetensors_seeds,
    shard_seeds,
    video_seeds,
)

SECONDS = 10.0  # of the processor; a worker that answers not at all is given PATIENCE times as long
PATIENCE = 12
MEMORY = 2 << 30  # bytes, of a worker's peak
ADDRESSES = 8 << 30  # bytes that a worker can reserve at all, so that none takes the machine's memory
FINE, TYPED, OTHER, HANG, LARGE, DEAD = "fine", "typed error", "other exception", "hang", "above 2 GiB", "dead process"
BAD = (OTHER, HANG, LARGE, DEAD)

# ------------------------------------------------------------------------------------------ what reads each kind


def read_image(path: Path) -> None:
    """An image, and its position on the ground."""
    from clips4.outputs.geotiff import place_of
    from clips4.utils.image_file import image_size
    from clips4.utils.images import load_rgb

    image = load_rgb(path)
    width, height = image_size(path, str(path))
    assert image.shape == (height, width, 3), (image.shape, width, height)
    place_of(path)


def read_label_map(path: Path) -> None:
    """A label map, and an object mask."""
    from clips4.data.label_maps import read_stored
    from clips4.data.masks import read_mask

    read_mask(path, "davis17")
    read_stored(path)


def read_edges(path: Path) -> None:
    """An edge map."""
    from clips4.regions.contours import read_edge_map

    read_edge_map(path, (48, 64))


def read_video(path: Path) -> None:
    """All frames of a video."""
    from clips4.utils.video import open_frames

    for _ in open_frames(path):
        pass


def read_preset(path: Path) -> None:
    """A configuration."""
    from clips4.config import load_config

    load_config(path)


def read_classes(path: Path) -> None:
    """A class list."""
    from clips4.data.class_names import load_classes

    load_classes(path)


def read_samples(path: Path) -> None:
    """A shard, each image decoded."""
    from clips4.data.image_source import ImageShards

    for _ in ImageShards([str(path)]).iterate(64, 0, 1):
        pass


def read_tensors(path: Path) -> None:
    """A file of weights."""
    from clips4.models.pretrained import read_weights

    read_weights(path)


KINDS: dict[str, tuple[Callable[[], Seeds], Callable[[Path], None]]] = {
    "images": (image_seeds, read_image),
    "masks": (mask_seeds, read_label_map),
    "arrays": (array_seeds, read_edges),
    "videos": (video_seeds, read_video),
    "presets": (preset_seeds, read_preset),
    "classes": (class_seeds, read_classes),
    "shards": (shard_seeds, read_samples),
    "safetensors": (safetensors_seeds, read_tensors),
}


# -------------------------------------------------------------------------------------------------------- mutation

_NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def mutate(data: bytes, other: bytes, draw: np.random.Generator) -> bytes:
    """Data with one to eight changes; ``other`` gives foreign blocks."""
    changed = bytearray(data)
    for _ in range(int(draw.integers(1, 9))):
        size = len(changed)
        if size < 2:
            break
        # half of all changes within the first 128 bytes, where headers are
        at = int(draw.integers(0, min(size, 128) if draw.random() < 0.5 else size))
        length = int(draw.integers(1, min(size - at, 64) + 1))
        choice = int(draw.integers(0, 10))
        if choice <= 2:
            changed[at] ^= 1 << int(draw.integers(0, 8))
        elif choice == 3:
            changed[at] = int(draw.integers(0, 256))
        elif choice <= 5:
            width = int(draw.choice([1, 2, 4]))
            number = int(draw.choice(_NUMBERS)) % 2 ** (8 * width)
            changed[at : at + width] = number.to_bytes(width, "big" if draw.random() < 0.5 else "little")
        elif choice == 6:
            del changed[at : at + length]
        elif choice == 7:
            changed[at:at] = changed[at : at + length] * int(draw.integers(1, 20))
        elif choice == 8:
            start = int(draw.integers(0, max(len(other) - length, 0) + 1))
            changed[at : at + length] = other[start : start + length]
        elif draw.random() < 0.3:
            del changed[at:]
    return with_checksums(bytes(changed)) if draw.random() < 0.8 else bytes(changed)


def with_checksums(data: bytes) -> bytes:
    """A PNG with the checksums that fit its chunks, so that changes reach the decoder; other data as it is."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    at, parts = 8, [data[:8]]
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        parts += [data[at:end], zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")]
        at = end + 4
    return b"".join([*parts, data[at:]])


def make_case(kind: str, seeds: Seeds, seed: int, number: int) -> tuple[str, bytes]:
    """File name and content of a case."""
    draw = np.random.default_rng([seed, list(KINDS).index(kind), number])
    first, second = (list(seeds)[int(draw.integers(0, len(seeds)))] for _ in range(2))
    return f"{number:06d}-{first}", mutate(seeds[first], seeds[second], draw)


# --------------------------------------------------------------------------------------------------------- workers


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


def work(connection: Connection, kind: str, seed: int, memory: int) -> None:
    """Answer each case number with (outcome, reason); end after a peak above ``memory``, since a peak never falls."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff prints what it finds
    make_seeds, read = KINDS[kind]
    seeds = make_seeds()
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder, next(iter(seeds)))
        first.write_bytes(seeds[first.name])
        read(first)  # imports what it needs
        connection.send(None)
        while (number := connection.recv()) is not None:
            name, data = make_case(kind, seeds, seed, number)
            path = Path(folder, name)
            path.write_bytes(data)
            outcome, reason = outcome_of(read, path)
            path.unlink()
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
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
    seeds = KINDS[kind][0]()
    counts: Counter[str] = Counter()
    begin = time.monotonic()
    for number, outcome, reason in run_cases(kind, cases, seed):
        counts[outcome] += 1
        if outcome in BAD:
            name, data = make_case(kind, seeds, seed, number)
            folder = out / kind / outcome.replace(" ", "-")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            (folder / f"{name}.reason").write_text(f"{reason}\n", "utf-8", "backslashreplace")
        if number % 1000 == 999:
            print(f"{kind}: {number + 1} cases, {time.monotonic() - begin:.0f} s, {dict(counts)}", file=sys.stderr)
    return counts


def table(results: dict[str, Counter[str]]) -> str:
    """The outcomes as a Markdown table."""
    columns = (FINE, TYPED, OTHER, HANG, LARGE, DEAD)
    lines = ["| kind | cases | " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) + 1)]
    for kind, counts in results.items():
        cells = [counts.total(), *(counts[column] for column in columns)]
        lines.append(f"| {kind} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--cases", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="folder for files that are not handled well")
    options = parser.parse_args()
    results = {kind: fuzz(kind, options.cases, options.seed, options.out) for kind in options.kind.split(",")}
    print(table(results))
    sys.exit(any(counts[outcome] for counts in results.values() for outcome in BAD))


if __name__ == "__main__":
    main()
