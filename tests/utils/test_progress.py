from collections.abc import Iterator

from clips4.utils.progress import NoProgress, counted


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
