"""Progress of long work: the reporter protocol, one that stays silent, and bars for a terminal."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

T = TypeVar("T")


class ProgressReporter(Protocol):
    """What long work tells while it goes on; the command line draws bars with it."""

    def stage(self, name: str, total: int) -> None:
        """A stage of ``total`` parts begins."""

    def advance(self, values: dict[str, float]) -> None:
        """One part of the stage is done; ``values`` are named losses while training."""

    def log(self, text: str) -> None:
        """Something that one should know, in one line; the work goes on."""


class NoProgress:
    """A Listener that listens to nothing."""

    def stage(self, name: str, total: int) -> None: ...

    def advance(self, values: dict[str, float]) -> None: ...

    def log(self, text: str) -> None: ...


class ProgressBars:
    """A ``listening.Listener`` that draws one bar per stage, with each named loss while training.

    Use as a context manager around the work.
    """

    def __init__(self, console: "Console"):
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

    def __enter__(self) -> "ProgressBars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage(self, name: str, total: int) -> None:
        """Begin a bar of ``total`` parts."""
        self._task = self._progress.add_task(name, total=total, losses="")

    def advance(self, values: dict[str, float]) -> None:
        """One part is done."""
        if self._task is not None:
            losses = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
            self._progress.update(self._task, advance=1, losses=losses)

    def log(self, text: str) -> None:
        """One line above the bars."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def each(self, name: str, items: Iterable[T], total: int) -> Iterator[T]:
        """Pass items on under a bar."""
        self.stage(name, total)
        for item in items:
            yield item
            self.advance({})
