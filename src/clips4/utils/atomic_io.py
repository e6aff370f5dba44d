"""Files and folders that appear complete or not at all: written under a temporary name, then renamed.

A process that is killed leaves its temporary files; the next one that locks the same folder or file removes them.
"""

import errno
import json
import os
import re
import secrets
import shutil
import socket
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, TextIO

from clips4.errors import UserError
from clips4.utils.text import printable

LOCK = ".lock"
_LEFTOVER = re.compile(r"\.(.+)\.(\d+)(-[0-9a-f]{8})?\.(part|old)")
_LONGEST = 200  # bytes of a name that its temporary name repeats; file systems allow 255 in all


def temporary_path(path: Path, suffix: str = "part") -> Path:
    """A hidden path in the same folder, unique to this process and this call, so that threads may write one file."""
    name = os.fsencode(path.name)[:_LONGEST].decode(errors="ignore")
    return path.with_name(f".{name}.{os.getpid()}-{secrets.token_hex(4)}.{suffix}")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write a file to; renamed to ``path`` at the end, removed after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with path_in_errors(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def path_in_errors(path: Path) -> Iterator[None]:
    """Add the path to system errors without one: a full disk shows itself when a file is written, not opened."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # else the message has no place for it
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)  # a copy's error names its source
            error.filename = str(path) if full else error.filename or str(path)
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` under a temporary name and rename: a reader sees the old file or the new one, never a part."""
    try:
        with atomic_file(path) as temporary:
            temporary.write_bytes(data)
    except FileNotFoundError:  # another thread or process removed the folder while it was empty
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
        with path_in_errors(path):
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


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Make a folder, keep other processes from writing to it meanwhile, and clear what killed ones left there.

    Raises:
        UserError: it is a file, or another process writes to it.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder")
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder / LOCK, folder):
            remove_leftovers(folder)
            yield
    finally:
        if new:  # an error before anything was written leaves nothing
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """The same for one file or folder that is written as a whole, in a folder that others may write to.

    Raises:
        UserError: another process writes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_name(f".{path.name}{LOCK}"), path):
        for left in path.parent.glob(f".{escape(path.name)}.*"):
            if (found := _LEFTOVER.fullmatch(left.name)) and found[1] == path.name:
                _remove(left)
        yield


def remove_leftovers(folder: Path, age: float = 0, spare_living: bool = False) -> None:
    """Remove temporary files and folders of killed processes from a folder and its subfolders.

    Args:
        folder: searched; links are not followed.
        age: seconds since their last change, at least; for a folder that other machines may be writing to.
        spare_living: keep those whose process number is in use on this machine.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if found := _LEFTOVER.fullmatch(name):
                path = Path(parent, name)
                with suppress(OSError):
                    young = age and time.time() - path.lstat().st_mtime <= age
                    if not young and not (spare_living and _is_alive(int(found[2]))):
                        _remove(path)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path, target: Path) -> Iterator[None]:
    """Hold a lock file, which says who holds it.

    The lock is the system's own, on the open file: it ends with the process, however that ends, so that a file left by
    a killed process or a machine that was switched off keeps nobody out. Windows has none.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = printable(file.read(200).strip()) or "another process"
            file.close()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(f"{target}: {holder} is writing there; wait until it ends, or give another folder")
            warnings.warn(
                f"{target}: this file system has no locks; let one command at a time write there", stacklevel=4
            )
            path.unlink(missing_ok=True)
            yield
            return
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # its holder removed it in between
    try:
        with suppress(OSError):  # a full disk: the lock holds without its text
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            file.close()


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
