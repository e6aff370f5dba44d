"""Ctrl-C and SIGTERM between steps, never within one.

Clusters send SIGTERM some seconds before they kill a job.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Record Ctrl-C or SIGTERM instead of raising, so that each step completes; a second one is raised at once.

    Yields:
        A function that returns whether one came; always False outside the main thread, which alone receives
        signals.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = {number: signal.getsignal(number) for number in STOPPING}

    def note(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    for number in STOPPING:
        signal.signal(number, note)
    try:
        yield pressed.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_stopping(_: int = 0) -> None:
    """In a worker: a signal to all processes of a job stops the parent process, which then stops the workers."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt at SIGTERM, as at Ctrl-C; in the main thread alone, which receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
