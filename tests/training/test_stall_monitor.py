import threading
from collections.abc import Iterator

import pytest

from clips4.training.stall_monitor import warn_on_stall


def test_items_pass_in_silence_where_nothing_stalls() -> None:
    warned: list[float] = []
    assert list(warn_on_stall(iter(range(5)), 60, warned.append)) == list(range(5))
    assert warned == []


def test_wait_is_reported_repeatedly_until_it_ends() -> None:
    enough, warned = threading.Event(), []

    def tell(seconds: float) -> None:
        warned.append(seconds)
        if len(warned) == 3:
            enough.set()

    def slow() -> Iterator[int]:
        assert enough.wait(60)  # the first wait: a wait before it could be told of too, on a slow machine
        yield 1

    assert list(warn_on_stall(slow(), 0.001, tell)) == [1]
    assert warned[:3] == pytest.approx([0.001, 0.002, 0.003])


def test_what_goes_wrong_while_waiting_is_not_hidden() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(warn_on_stall(broken(), 60, lambda _: None))
