"""Files and folders that appear complete or not at all: written under a temporary name, then renamed."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

_TEMPORARY = re.compile(r"\..*\.(\d+)-[0-9a-f]{8}\.(part|old)")
_LONGEST = 200  # bytes of a name that its temporary name repeats; file systems allow 255 in all


def temporary_path(path: Path, suffix: str = "part") -> Path:
    """A hidden path in the same folder, unique to this process and this call, so that threads may write one file."""
    name = os.fsencode(path.name)[:_LONGEST].decode(errors="ignore")
    return path.with_name(f".{name}.{os.getpid()}-{secrets.token_hex(4)}.{suffix}")


def remove_stale_parts(folder: Path) -> None:
    """Remove what processes that were killed left under temporary names in a folder and its subfolders."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            match = _TEMPORARY.fullmatch(name)
            if match and not _is_alive(int(match[1])):
                path = Path(parent, name)
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write a file to; renamed to ``path`` at the end, removed after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` under a temporary name and rename: a reader sees the old file or the new one, never a part."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_text_file(path: Path) -> Iterator[TextIO]:
    """A text file to write to; renamed to ``path`` at the end, removed after an error."""
    # "backslashreplace": file names may hold bytes that are no text
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield file


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to write to; at the end it replaces ``path``, after an error it is removed."""
    temporary = temporary_path(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        remove_folder(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Rename a folder, then remove it, so that nobody takes a part of it for the whole."""
    if path.exists():
        renamed = temporary_path(path, "old")
        path.replace(renamed)
        shutil.rmtree(renamed)


def write_json_lists(path: Path, head: dict[str, Any], lists: Mapping[str, Iterable[Any]]) -> None:
    """Write a JSON object of plain values and of lists that may not fit in memory, one line for each member.

    Args:
        head: keys and values that come first.
        lists: key -> members, each read once, in order.
    """
    with atomic_text_file(path) as file:
        file.write("{" + ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()))
        for name, members in lists.items():
            file.write(f",\n{json.dumps(name)}: [")
            for index, member in enumerate(members):
                file.write((",\n" if index else "\n") + json.dumps(member, separators=(",", ":")))
            file.write("\n]")
        file.write("}\n")
