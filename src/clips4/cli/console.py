"""What commands print, and what ``--quiet`` leaves out.

Results (tables, JSON, versions) always go to standard output. Summaries go there too; notes and progress bars go to
standard error. ``--quiet`` leaves out summaries, notes and bars, never errors.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import typer

from clips4.cli.shell import QUIET
from clips4.utils.progress import ProgressBars
from clips4.utils.text import printable


class Outcome(Protocol):
    """What a job did with each image."""

    @property
    def done(self) -> Sequence[Path]:
        """Images that were processed."""

    @property
    def skipped(self) -> Sequence[tuple[Path, str]]:
        """Images that were skipped, each with the reason."""


def is_quiet() -> bool:
    """Whether ``--quiet`` was given, or CLIPS4_QUIET is set."""
    return bool(os.environ.get(QUIET))


def progress_bars() -> ProgressBars:
    """Progress bars on standard error, drawn only on a terminal and without ``--quiet``."""
    from rich.console import Console

    return ProgressBars(Console(stderr=True, quiet=is_quiet()))


def echo(text: object, err: bool = False) -> None:
    """Print lines; names in them cannot control the terminal."""
    for line in str(text).split("\n"):
        typer.echo(printable(line), err=err)


def print_summary(text: str, record: Mapping[str, object] | None = None, as_json: bool = False) -> None:
    """Print the last line of a command: ``text``, or with ``as_json`` the record, which ``--quiet`` does not hide."""
    if as_json:
        typer.echo(json.dumps(record, indent=2, default=str))
    elif not is_quiet():
        echo(printable(text))


def print_note(text: str) -> None:
    """Print one line to standard error."""
    if not is_quiet():
        echo(printable(text), err=True)


def outcome_record(outcome: Outcome) -> dict[str, object]:
    """The outcome of a job as a record for ``--json``."""
    return {
        "done": [str(path) for path in outcome.done],
        "skipped": {str(path): reason for path, reason in outcome.skipped},
    }
