"""Behavior shared by all commands: global flags anywhere on the line, exit codes, one-line errors.

Exit codes: 0 success; 1 success with a problem found (``doctor``), or an internal error; 2 an error that the user can
fix; 130 stopped by Ctrl-C or SIGTERM.
"""

import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from clips4.errors import UserError
from clips4.utils.interrupts import sigterm_as_interrupt
from clips4.utils.text import printable

QUIET = "CLIPS4_QUIET"  # an environment variable, so that child processes are quiet too
_GLOBAL = ("--debug", "--quiet", "-q")
RENAMED_OPTIONS = {"--reading": "--dense-attention", "--pictures": "--images", "--labelled": "--labeled"}


def run(app: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Run a typer application.

    Args:
        app: called with ``args``, ``prog_name`` and ``standalone_mode``.
        arguments: everything after the program's name; ``--quiet`` and ``--debug`` may be anywhere.

    Returns:
        The exit code. With ``--debug`` errors are raised instead.
    """
    ordered = global_flags_first(current_options(arguments))
    debug = "--debug" in ordered
    quiet = any(flag in ordered[: len(_GLOBAL)] for flag in ("--quiet", "-q"))
    warnings.formatwarning = lambda message, *_, **__: f"clips4: {printable(message)}\n"
    try:
        with _quiet(quiet), sigterm_as_interrupt():
            code = app(args=ordered, prog_name="clips4", standalone_mode=False)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a command group without a command shows its help
            error.show()  # type: ignore[attr-defined]
            return 2
        if debug:
            raise
        line, code = describe_error(error)
        print(f"clips4: {printable(line)}", file=sys.stderr)
    if code == 130:
        print("clips4: stopped", file=sys.stderr)
    return int(code or 0)


def global_flags_first(arguments: Sequence[str]) -> list[str]:
    """Move the global flags to the front; whatever follows ``--`` stays.

    Example:
        >>> global_flags_first(["train", "photos", "-q"])
        ['-q', 'train', 'photos']
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    before, after = arguments[:end], arguments[end:]
    flags = [each for each in dict.fromkeys(before) if each in _GLOBAL]
    return [*flags, *(each for each in before if each not in _GLOBAL), *after]


def current_options(arguments: Sequence[str]) -> list[str]:
    """Replace options by their current names (``RENAMED_OPTIONS``); old names keep working, but no help shows them.

    Example:
        >>> current_options(["segment", "--reading=sclip"])
        ['segment', '--dense-attention=sclip']
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [each.partition("=") for each in arguments[:end]]
    return [RENAMED_OPTIONS.get(name, name) + equals + value for name, equals, value in options] + list(arguments[end:])


def describe_error(error: Exception) -> tuple[str, int]:
    """Describe an error in one line that says what to do, with its exit code."""
    if isinstance(error, UserError):
        return str(error), 2
    if hasattr(error, "format_message"):  # a usage error; its class is click's or typer's own, depending on the version
        context = getattr(error, "ctx", None)
        message = " ".join(error.format_message().split()).rstrip(".")
        separator = " " if message.endswith("?") else "; "
        return f"{message}{separator}see {context.command_path if context else 'clips4'} --help", 2
    if type(error).__name__ == "Abort":
        return "stopped", 130
    if isinstance(error, OSError):  # a full disk, a folder without write permission, a file where a folder belongs
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{where}{error.strerror}; free some space and run the same command again (train: --resume)", 2
        return f"{where}{error.strerror or error}; fix this path, or give another one", 2
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory; use smaller images, a smaller batch (--set train.batch=...), or another --device", 2
    message = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {message}; add --debug for a traceback", 1


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
