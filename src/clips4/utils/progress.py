"""Progress of long work: the reporter protocol, a reporter that does nothing, and bars for a terminal."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from clips4.utils.text import plural, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

T = TypeVar("T")


class ProgressReporter(Protocol):
    """Receives the progress of long work; the command line draws bars from it."""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of ``total`` parts."""

    def advance(self, values: dict[str, float]) -> None:
        """Complete one part of the stage; ``values`` are named losses while training."""

    def log(self, text: str) -> None:
        """Report one line of text; the work continues."""


class NoProgress:
    """A progress reporter that does nothing."""

    def stage(self, name: str, total: int) -> None: ...

    def advance(self, values: dict[str, float]) -> None: ...

    def log(self, text: str) -> None: ...


Silent = NoProgress  # its earlier name


def notice(text: str) -> None:
    """Write a line to standard error where a person reads it: on a terminal or in a notebook, unless it is quiet."""
    if (sys.stderr.isatty() or "ipykernel" in sys.modules) and not os.environ.get("CLIPS4_QUIET"):
        print(f"clips4: {printable(text)}", file=sys.stderr)


def counted(progress: ProgressReporter | None, name: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """Yield the items of a stage, of which ``total`` (by default their length) are expected; progress follows each."""
    progress = progress or NoProgress()
    progress.stage(name, len(items) if total is None else total)  # type: ignore[arg-type]
    for item in items:
        yield item
        progress.advance({})


class ProgressBars:
    """A ``ProgressReporter`` that draws one bar per stage, with the named losses while training.

    Where the console is no terminal, it prints a line every ``heartbeat`` seconds instead, so that a log shows that the
    work goes on. Use as a context manager around the work.
    """

    def __init__(self, console: "Console", heartbeat: float = 60.0):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._heartbeat = heartbeat
        self._ended = threading.Event()
        self._started = time.monotonic()

    def __enter__(self) -> "ProgressBars":
        self._progress.start()
        if self._progress.disable:
            threading.Thread(target=self._print_heartbeats, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._progress.stop()

    def _print_heartbeats(self) -> None:
        while not self._ended.wait(self._heartbeat):
            if self._task is None:
                continue
            task = self._progress.tasks[self._task]
            done, total = int(task.completed), int(task.total or 0)
            line = f"{task.description}: {done}{f' of {total}' if total else ''}"
            if 0 < done < total:
                left = (time.monotonic() - self._started) / done * (total - done)
                line += f", about {plural(round(left / 60) or 1, 'minute')} left"
            losses = task.fields["losses"]
            self.log(f"{line}; {losses}" if losses else line)

    def stage(self, name: str, total: int) -> None:
        """Begin a bar of ``total`` parts; 0 where nobody knows how many."""
        self._started = time.monotonic()
        self._task = self._progress.add_task(name, total=total or None, losses="")

    def advance(self, values: dict[str, float]) -> None:
        """Advance the bar by one part and show the losses."""
        if self._task is not None:
            losses = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
            self._progress.update(self._task, advance=1, losses=losses)

    def log(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
