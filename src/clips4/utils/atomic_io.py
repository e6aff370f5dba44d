"""Files and folders that are written piece by piece, and appear whole or not at all."""

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


def name_beside(path: Path, ending: str = "part") -> Path:
    """A hidden name in the same folder, of this process and this call alone: threads may write one file, too."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.{ending}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write a file to, renamed to ``path`` at the end, removed where something goes wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = name_beside(path)
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside and rename, so that a reader never sees half a file and an old one is lost only to a whole one."""
    with replacing(path) as beside:
        beside.write_bytes(data)


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file to write to; it is renamed to ``path`` at the end, and removed where something goes wrong."""
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        yield file


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write to; at the end it takes the place of ``path``, and it is removed where something goes wrong."""
    beside = name_beside(path)
    beside.mkdir(parents=True)
    try:
        yield beside
        remove_folder(path)
        beside.replace(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder so that no half of it is ever taken for one."""
    if path.exists():
        aside = name_beside(path, "old")
        path.replace(aside)
        shutil.rmtree(aside)


def write_json_lists(path: Path, head: dict[str, Any], lists: dict[str, Iterable[Any]]) -> None:
    """A JSON object of plain values, then of lists that may be longer than memory: one line for each member.

    Args:
        head: what stands first.
        lists: name -> members, each read once, in order.
    """
    with whole_file(path) as file:
        file.write("{" + ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()))
        for name, members in lists.items():
            file.write(f",\n{json.dumps(name)}: [")
            for index, member in enumerate(members):
                file.write((",\n" if index else "\n") + json.dumps(member, separators=(",", ":")))
            file.write("\n]")
        file.write("}\n")
