"""A folder that the ranks of one job write to together, on one machine or on several that share a file system.

Every rank holds a shared lock on the folder, which keeps other commands out, and a lock of its own number, which keeps
out another job's rank. What concerns the whole folder is done in turns. Locks end with the process, however that ends.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from clips4.errors import UserError
from clips4.utils.atomic_io import LOCK, remove_leftovers
from clips4.utils.output_folder.manifest import FOLDER
from clips4.utils.output_folder.names import check_out_folder

_TURN = "turn.lock"


@contextmanager
def lock_for_rank(folder: Path, rank: int) -> Iterator[None]:
    """Make a folder, and write to it beside the other ranks of this job; the first clears what killed ones left.

    Args:
        folder: of outputs.
        rank: number of this process.

    Raises:
        UserError: it is a file, another command or another job's rank writes to it, or there are no locks.
    """
    check_out_folder(folder)
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    own = folder / FOLDER / f"rank{rank}.lock"
    with take_turn(folder):
        shared = _lock(folder / LOCK, folder, exclusive=False)
        mine = _lock(own, folder)
        if _is_alone(shared):
            for left in (folder / FOLDER).glob("rank*.lock"):
                if left != own:
                    left.unlink(missing_ok=True)
            remove_leftovers(folder)
            _change(shared, exclusive=False)
    try:
        yield
    finally:
        with take_turn(folder):
            with suppress(OSError):
                if os.path.samestat(os.fstat(mine.fileno()), own.stat()):  # not another's, after ``leave_ranks``
                    own.unlink()
            mine.close()
            if _is_alone(shared):
                (folder / LOCK).unlink(missing_ok=True)
            shared.close()


def leave_ranks(folder: Path, rank: int) -> bool:
    """Whether this rank is the last; the others then do not wait for it. To be called in a turn, after its own work.

    A rank that was killed counts as one that left.
    """
    (folder / FOLDER / f"rank{rank}.lock").unlink(missing_ok=True)
    for path in (folder / FOLDER).glob("rank*.lock"):
        try:
            with path.open("a+", encoding="utf-8") as file:
                _change(file, exclusive=True)
        except BlockingIOError:
            return False
    return True


@contextmanager
def take_turn(folder: Path) -> Iterator[None]:
    """Wait until no other rank works on the folder as a whole, and keep others waiting meanwhile."""
    path = folder / FOLDER / _TURN
    file = _lock(path, folder, wait=True)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _lock(path: Path, target: Path, exclusive: bool = True, wait: bool = False) -> TextIO:
    """The open file of a lock; ``target`` is named in errors.

    Raises:
        UserError: another process holds it, or the system has no locks.
    """
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            _change(file, exclusive, wait)
        except BlockingIOError:
            file.close()
            raise UserError(f"{target}: another command is writing there; wait until it ends, or give another --out")
        except OSError as error:
            file.close()
            raise UserError(f"{target}: no locks there ({error.strerror}); start one process instead of several")
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # its holder removed it in between


def _change(file: TextIO, exclusive: bool, wait: bool = False) -> None:
    """Lock an open file, or turn a shared lock into an exclusive one and back.

    Raises:
        BlockingIOError: another process holds it.
    """
    if sys.platform == "win32":
        raise OSError(0, "Windows")
    import fcntl

    try:
        fcntl.lockf(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except PermissionError:  # what some systems raise instead
        raise BlockingIOError


def _is_alone(shared: TextIO) -> bool:
    """Whether no other rank shares the lock; then it is exclusive from now on."""
    try:
        _change(shared, exclusive=True)
    except BlockingIOError:
        return False
    return True
