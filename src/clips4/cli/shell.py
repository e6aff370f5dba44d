"""What holds for every command: global flags anywhere, exit codes, one line for what went wrong.

Exit codes: 0 done; 1 done and something is amiss (``doctor``), or an error of the program; 2 what the user can mend;
130 stopped by Ctrl-C.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from clips4.errors import UserError

QUIET = "CLIPS4_QUIET"  # in the environment, so that processes which a command starts hold their tongue too
_GLOBAL = ("--debug", "--quiet", "-q")


def run(app: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Run a typer application.

    Args:
        app: it takes ``args``, ``prog_name`` and ``standalone_mode``.
        arguments: what follows the program's name; ``--quiet`` and ``--debug`` may stand anywhere.

    Returns:
        The exit code. With ``--debug`` errors are raised instead.
    """
    ordered = global_flags_first(arguments)
    debug = "--debug" in ordered
    quiet = any(flag in ordered[: len(_GLOBAL)] for flag in ("--quiet", "-q"))
    warnings.formatwarning = lambda message, *_, **__: f"clips4: {message}\n"
    try:
        with _quiet(quiet):
            code = app(args=ordered, prog_name="clips4", standalone_mode=False)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a bare command's help
            error.show()  # type: ignore[attr-defined]
            return 2
        if debug:
            raise
        line, code = describe(error)
        print(f"clips4: {line}", file=sys.stderr)
    if code == 130:
        print("clips4: stopped", file=sys.stderr)
    return int(code or 0)


def global_flags_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with the flags of every command moved to the front; what follows ``--`` stays."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    before, after = arguments[:end], arguments[end:]
    flags = [each for each in dict.fromkeys(before) if each in _GLOBAL]
    return [*flags, *(each for each in before if each not in _GLOBAL), *after]


def describe(error: Exception) -> tuple[str, int]:
    """One line that says what to do, and the exit code."""
    if isinstance(error, UserError):
        return str(error), 2
    if hasattr(error, "format_message"):  # wrong usage; the class is click's or typer's own, by typer's version
        context = getattr(error, "ctx", None)
        said = " ".join(error.format_message().split()).rstrip(".")
        return (
            f"{said}{' ' if said.endswith('?') else '; '}see {context.command_path if context else 'clips4'} --help",
            2,
        )
    if type(error).__name__ == "Abort":
        return "stopped", 130
    if isinstance(error, OSError):  # a full disk, a folder that may not be written, a file where a folder is wanted
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; give another place, or mend this one", 2
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory; take smaller pictures, a smaller batch (--set train.batch=...), or another --device", 2
    said = " ".join(str(error).split())
    return f"error of the program: {type(error).__name__}: {said}; the same with --debug says where", 1


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    before = os.environ.get(QUIET)
    if quiet:
        os.environ[QUIET] = "1"
    try:
        yield
    finally:
        if quiet:
            os.environ.pop(QUIET) if before is None else os.environ.update({QUIET: before})
