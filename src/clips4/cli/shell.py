"""Behavior shared by all commands: global options anywhere on the line, exit codes, one-line errors.

Exit codes: 0 success; 1 success with a problem found (``doctor``), or an internal error; 2 an error that the user can
fix; 130 stopped by Ctrl-C or SIGTERM.
"""

import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from clips4.errors import UserError, lacks_handles
from clips4.utils.interrupts import sigterm_as_interrupt
from clips4.utils.text import printable

QUIET = "CLIPS4_QUIET"  # an environment variable, so that child processes are quiet too
_FLAGS, _MEGAPIXELS = ("--debug", "--quiet", "-q"), "--max-megapixels"
RENAMED_OPTIONS = {"--reading": "--dense-attention", "--pictures": "--images", "--labelled": "--labeled"}
_WITH_RECORD = ("evaluate", "score", "track")  # commands where --json FILE is an earlier name of --record FILE
_RENAMED_VALUES = {"colour": "color", "neighbours": "knn", "probe": "linear-probe"}  # of --features and --tasks


def run(app: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Run a typer application.

    Args:
        app: called with ``args``, ``prog_name`` and ``standalone_mode``.
        arguments: everything after the program's name; the global options may be anywhere.

    Returns:
        The exit code. With ``--debug`` errors are raised instead.
    """
    ordered = global_options_first(current_options(arguments))
    debug = "--debug" in ordered
    warnings.formatwarning = lambda message, *_, **__: f"clips4: {printable(message)}\n"
    try:
        with _same_environment(), sigterm_as_interrupt():
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


def global_options_first(arguments: Sequence[str]) -> list[str]:
    """Move the global options to the front; whatever follows ``--`` stays.

    Example:
        >>> global_options_first(["train", "photos", "-q", "--max-megapixels", "200"])
        ['-q', '--max-megapixels', '200', 'train', 'photos']
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    first: list[str] = []
    others: list[str] = []
    before = iter(arguments[:end])
    for each in before:
        if each == _MEGAPIXELS:
            first += [each, *islice(before, 1)]
        else:
            (first if each in _FLAGS or each.startswith(f"{_MEGAPIXELS}=") else others).append(each)
    return [*first, *others, *arguments[end:]]


def current_options(arguments: Sequence[str]) -> list[str]:
    """Replace options by their current names (``RENAMED_OPTIONS``); old names keep working, but no help shows them.

    Example:
        >>> current_options(["segment", "--reading=sclip"])
        ['segment', '--dense-attention=sclip']
        >>> current_options(["score", "--json", "out.json"])
        ['score', '--record', 'out.json']
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [each.partition("=") for each in arguments[:end]]
    renamed = [RENAMED_OPTIONS.get(name, name) + equals + value for name, equals, value in options]
    if set(_WITH_RECORD) & set(renamed):
        for at, each in enumerate(renamed):
            named_file = each == "--json" and at + 1 < end and renamed[at + 1].endswith(".json")
            if named_file or each.startswith("--json="):
                renamed[at] = each.replace("--json", "--record", 1)
    return renamed + list(arguments[end:])


def current_values(text: str) -> list[str]:
    """The parts of a list with commas, values of earlier versions by their current names.

    Example:
        >>> current_values("student, colour")
        ['student', 'color']
    """
    parts = [part.strip() for part in text.split(",")]
    return [_RENAMED_VALUES.get(part, part) for part in parts if part]


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
        if lacks_handles(error):
            return f"{where}{error.strerror}; raise the limit (ulimit -n 1024) and run the same command again", 2
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{where}{error.strerror}; free some space and run the same command again (train: --resume)", 2
        return f"{where}{error.strerror or error}; fix this path, or give another one", 2
    no_memory = isinstance(error, RuntimeError) and "t allocate memory" in str(error)  # PyTorch on a CPU
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or no_memory:
        return "out of memory; use smaller images, a smaller batch (--set train.batch=...), or another --device", 2
    message = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {message}; add --debug for a traceback", 1


@contextmanager
def _same_environment() -> Iterator[None]:
    """Leave environment variables as they were: global options set some."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before:
            del os.environ[name]
        os.environ |= before
