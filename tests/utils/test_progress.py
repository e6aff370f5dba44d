import io
import time
from collections.abc import Iterator

from rich.console import Console

from clips4.utils.progress import NoProgress, ProgressBars, counted


class Notes(NoProgress):
    """Notes what it is called with."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def stage(self, name: str, total: int) -> None:
        self.seen.append((name, total))

    def advance(self, values: dict[str, float]) -> None:
        self.seen.append(values)


def numbers() -> Iterator[int]:
    yield from (1, 2)


def test_counted_sequence_advances_after_each_item() -> None:
    notes = Notes()
    items = counted(notes, "scoring", [1, 2])
    assert next(items) == 1
    assert notes.seen == [("scoring", 2)]
    assert list(items) == [2]
    assert notes.seen == [("scoring", 2), {}, {}]


def test_counted_iterator_reports_the_given_total() -> None:
    notes = Notes()
    assert list(counted(notes, "scoring", numbers(), 5)) == [1, 2]
    assert notes.seen[0] == ("scoring", 5)


def test_counted_without_progress_yields_the_items() -> None:
    assert list(counted(None, "scoring", (3, 4))) == [3, 4]


def test_counted_item_not_finished_does_not_advance() -> None:
    notes = Notes()
    items = counted(notes, "scoring", [1])
    next(items)
    del items  # as where the work on an item raises
    assert notes.seen == [("scoring", 1)]


def printed(total: int, done: int, heartbeat: float = 0.05, quiet: bool = False) -> str:
    """What bars print in some heartbeats of a stage on a console that is no terminal."""
    file = io.StringIO()
    with ProgressBars(Console(file=file, quiet=quiet), heartbeat) as bars:
        bars.stage("training", total)
        for _ in range(done):
            bars.advance({"L_t": 0.5})
        deadline = time.monotonic() + (0.3 if quiet else 20)
        while "\n" not in file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    return file.getvalue()


def test_progress_bars_without_terminal_print_a_heartbeat() -> None:
    assert printed(8, 2).splitlines()[0] == "training: 2 of 8, about 1 minute left; L_t 0.500"


def test_progress_bars_unknown_total_is_left_out() -> None:
    assert printed(0, 0).splitlines()[0] == "training: 0"


def test_progress_bars_short_or_quiet_work_prints_nothing() -> None:
    assert printed(1, 0, quiet=True) == ""
    file = io.StringIO()
    with ProgressBars(Console(file=file)) as bars:
        bars.stage("training", 1)
    assert file.getvalue() == ""
