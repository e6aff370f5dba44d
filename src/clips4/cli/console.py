"""What commands print, and what ``--quiet`` leaves out.

Results (tables, JSON, versions) always go to standard output. Summaries go there too; notes and progress bars go to
standard error. ``--quiet`` leaves out summaries, notes and bars, never errors.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from clips4.cli.shell import QUIET
from clips4.errors import UserError
from clips4.utils.progress import ProgressBars
from clips4.utils.text import plural, printable

if TYPE_CHECKING:
    from clips4.data.image_folder import JobOutcome


_BAR = re.compile(r"(?<!\\)\|")  # between the cells of a Markdown table


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


def print_table(text: str) -> None:
    """Print a Markdown table of one heading and its rows: drawn on a terminal, as it is where it is piped."""
    import sys

    if not sys.stdout.isatty():
        echo(text)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    heading, marks, *rows = ([cell.strip() for cell in _BAR.split(line)[1:-1]] for line in text.split("\n"))
    table = Table(box=box.SIMPLE_HEAD)
    for name, mark in zip(heading, marks, strict=True):
        table.add_column(Text(name), justify="right" if mark.endswith(":") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell.replace("\\|", "|"))) for cell in row))
    Console().print(table)


def print_record(record: Mapping[str, object], file: Path | None, as_json: bool) -> None:
    """Write the full record of scores to ``file``, if one is given; with ``as_json`` print it."""
    from clips4.evaluation.record import write_json

    if file:
        write_json(file, record)
    if as_json:
        print_summary("", record, as_json)


def print_note(text: str) -> None:
    """Print one line to standard error."""
    if not is_quiet():
        echo(printable(text), err=True)


def print_skipped(skipped: Iterable[tuple[Path, str]]) -> None:
    """Print a note for each image that was skipped."""
    for _, reason in skipped:
        print_note(f"skipped: {reason}")


def stop(text: str) -> NoReturn:
    """Print how far an interrupted command came, and exit with 130."""
    echo(text, err=True)
    raise typer.Exit(130)


def _kind_of_input(path: Path) -> str:
    """What a job counts: images, videos, or shards, whose images it does not count."""
    from clips4.data.shards.files import is_shard
    from clips4.utils.video import is_video

    return "video" if is_video(path) else "shard" if is_shard(path) else "image"


def print_outcome(outcome: "JobOutcome", verb: str, where: str, out: Path | None, as_json: bool) -> None:
    """Print the outcome of a job: what was skipped, then how much was done, and where it is.

    Raises:
        UserError: no input could be read.
        typer.Exit: interrupted.
    """
    print_skipped(outcome.skipped)
    if outcome.gone:
        print_note(
            f"gone or edited since they were done: {outcome.gone}; their outputs remain in {out}, "
            "and the files of the whole folder leave them out"
        )
    worked_on = [*outcome.done, *outcome.kept]
    kinds = {_kind_of_input(path) for path in worked_on or (path for path, _ in outcome.skipped)}
    what = kinds.pop() if len(kinds) == 1 else "file" if kinds else "image"
    if outcome.interrupted:
        done = plural(len(outcome.done) + len(outcome.kept), what)
        stop(f"Stopped after {done}; run the same command to resume.")
    kept = f", {len(outcome.kept)} done before" if outcome.kept else ""
    record = {
        "done": [str(path) for path in outcome.done],
        "skipped": {str(path): reason for path, reason in outcome.skipped},
        "done_before": [str(path) for path in outcome.kept],
        "out": out,
    }
    done = plural(len(outcome.done), what)
    print_summary(f"{verb} {done} ({len(outcome.skipped)} skipped{kept}) {where}.", record, as_json)
    if outcome.skipped and not outcome.done and not outcome.kept:
        raise UserError(f"none of {plural(len(outcome.skipped), what)} could be read")
