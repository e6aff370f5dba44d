"""A wait that takes too long is told of while it lasts."""

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


def warn_on_stall(items: Iterator[T], seconds: float, tell: Callable[[float], None]) -> Iterator[T]:
    """Pass items on; while the next one is waited for, call ``tell`` after every ``seconds`` with the time waited.

    Args:
        items: what is waited for.
        seconds: how long a wait may take in silence.
        tell: called from another thread.
    """
    while True:
        arrived = threading.Event()
        watch = threading.Thread(target=_run_callback, args=(arrived, seconds, tell), daemon=True)
        watch.start()
        try:
            item = next(items)
        except StopIteration:
            return
        finally:
            arrived.set()
            watch.join()
        yield item


def _run_callback(arrived: threading.Event, seconds: float, tell: Callable[[float], None]) -> None:
    waited = 0.0
    while not arrived.wait(seconds):
        waited += seconds
        tell(waited)
