"""Ctrl-C is noted once and obeyed at once the second time."""

import os
import signal
import threading

import pytest

from clips4.utils.interrupts import deferred_interrupt


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_first_is_noted_the_second_raised_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with deferred_interrupt() as pressed:
        assert not pressed()
        press()
        assert pressed()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_nothing_is_noted() -> None:
    seen = []

    def work() -> None:
        with deferred_interrupt() as pressed:
            seen.append(pressed())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
