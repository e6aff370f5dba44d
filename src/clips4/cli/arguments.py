"""Pictures as a shell gives them: lists on the standard input, and patterns that no shell has expanded."""

import glob
import sys
from collections.abc import Iterable
from pathlib import Path

from clips4.errors import UserError

STDIN = "-"


def expand_paths(paths: list[Path] | None) -> list[Path] | None:
    """A callback of path arguments.

    ``-`` stands for the paths on the standard input, one a line, or ended by NUL as ``find -print0`` writes them. A
    pattern with ``*``, ``?`` or ``[`` that is no file itself stands for what it matches, ``**`` through all folders,
    sorted. Everything else stays as it is, numbered tar shards (``{000..099}.tar``) too.

    Raises:
        UserError: a pattern that matches nothing, an empty list, or ``-`` twice.
    """
    if paths is None:
        return None
    if sum(str(path) == STDIN for path in paths) > 1:
        raise UserError("'-' is given twice; the standard input holds one list")
    return [each for path in paths for each in _expand(path)]


def _expand(path: Path) -> Iterable[Path]:
    if str(path) == STDIN:
        return _read_stdin()
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = sorted(glob.glob(str(path.expanduser()), recursive=True))  # noqa: PTH207  # absolute patterns too
    if not found:
        raise UserError(f"{path}: matches no file; look at the pattern, and quote it so that the shell leaves it alone")
    return map(Path, found)


def _read_stdin() -> list[Path]:
    if sys.stdin.isatty():
        raise UserError(
            "'-' takes paths from the standard input; pipe them in: find photos -name '*.jpg' | clips4 ... -"
        )
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError:
        raise UserError("standard input: not UTF-8; give paths, one a line")
    lines = text.split("\0") if "\0" in text else text.splitlines()
    paths = [Path(line) for line in lines if line.strip()]
    if not paths:
        raise UserError("standard input: empty; give paths, one a line")
    return paths
