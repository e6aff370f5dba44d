"""Ctrl-C is noted once and obeyed at once the second time."""

import os
import signal
import threading

import pytest

from clips4.utils.interrupts import STOPPING, deferred_interrupt, sigterm_as_interrupt


def press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("first", STOPPING)
@pytest.mark.parametrize("second", STOPPING)
def test_first_is_noted_the_second_raised_and_the_old_handler_comes_back(first: int, second: int) -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    with deferred_interrupt() as pressed:
        assert not pressed()
        press(first)
        assert pressed()
        with pytest.raises(KeyboardInterrupt):
            press(second)
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_sigterm_as_interrupt_raises_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        press(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_nothing_is_noted() -> None:
    seen = []

    def work() -> None:
        with deferred_interrupt() as pressed:
            seen.append(pressed())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
