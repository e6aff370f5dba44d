"""Speed of tar shards: images per second, and ``skip`` compared with reading everything.

    python benchmarks/shards.py [--shards 8] [--files 1000] [--bytes 50000]

Writes shards of random bytes to a temporary folder, and reads them once beforehand, so that the page cache is warm.
"""

import argparse
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TypeVar

from clips4.data.shards.stream import read_forever, read_once

T = TypeVar("T")


def write_shard(path: Path, files: int, size: int) -> str:
    with tarfile.open(path, "w") as tar:
        for index in range(files):
            info = tarfile.TarInfo(f"{index:06d}.jpg")
            info.size = size
            tar.addfile(info, io.BytesIO(os.urandom(size)))
    return str(path)


def clock(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("--shards", 8), ("--files", 1000), ("--bytes", 50_000)):
        parser.add_argument(name, type=int, default=value)
    given = parser.parse_args()
    total = given.shards * given.files
    with tempfile.TemporaryDirectory() as folder:
        paths = [write_shard(Path(folder, f"{n:04d}.tar"), given.files, given.bytes) for n in range(given.shards)]
        sum(1 for _ in read_once(paths, 0, 1))
        seconds, _ = clock(lambda: sum(1 for _ in read_once(paths, 0, 1)))
        print(f"read_once     {total / seconds:.0f} files/s, {total * given.bytes / seconds / 1e6:.0f} MB/s")
        seconds, _ = clock(lambda: sum(1 for _ in islice(read_forever(paths, 0, 0, 1), total)))
        print(f"read_forever  {total / seconds:.0f} files/s")
        for skip in (total * 15 // 16, total * 47 // 16):
            through, expected = clock(lambda skip=skip: next(islice(read_forever(paths, 0, 0, 1), skip, None)))  # type: ignore[misc]
            skipping, found = clock(lambda skip=skip: next(read_forever(paths, 0, 0, 1, skip)))  # type: ignore[misc]
            assert found == expected
            print(f"after {skip}: read through {through:.2f} s, skip {skipping:.2f} s, ratio {through / skipping:.1f}")


if __name__ == "__main__":
    main()
