"""What commands say, and when they hold their tongue.

Answers (tables, JSON, versions) go to the standard output always. Summaries go there too, remarks and progress bars to
the error stream; ``--quiet`` leaves these three out. Errors are always told.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import typer

from clips4.cli.shell import QUIET


class _Worked(Protocol):
    """What became of pictures: those worked on, and those left out with the reason."""

    @property
    def done(self) -> Sequence[Path]: ...

    @property
    def skipped(self) -> Sequence[tuple[Path, str]]: ...


def is_quiet() -> bool:
    """Whether ``--quiet`` was given, or CLIPS4_QUIET is set."""
    return bool(os.environ.get(QUIET))


def summarise(text: str, record: Mapping[str, object] | None = None, as_json: bool = False) -> None:
    """The last word of a command: a sentence for people, or with ``--json`` a record for machines, quiet or not."""
    if as_json:
        typer.echo(json.dumps(record, indent=2, default=str))
    elif not is_quiet():
        typer.echo(text)


def listed(outcome: "_Worked") -> dict[str, object]:
    """What became of pictures, as a record."""
    return {
        "done": [str(path) for path in outcome.done],
        "skipped": {str(path): reason for path, reason in outcome.skipped},
    }


def remark(text: str) -> None:
    """A line beside the answer, to the error stream."""
    if not is_quiet():
        typer.echo(text, err=True)
