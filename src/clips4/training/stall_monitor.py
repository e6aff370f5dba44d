"""Warnings while the next item takes too long."""

import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


def warn_on_stall(items: Iterator[T], seconds: float, warn: Callable[[float], None]) -> Generator[T, None, None]:
    """Pass items on; during each wait, call ``warn`` every ``seconds`` with the time waited so far.

    Args:
        items: any iterator.
        seconds: interval of the warnings.
        warn: called from another thread.

    Yields:
        The items, unchanged.
    """
    while True:
        arrived = threading.Event()
        watcher = threading.Thread(target=_watch, args=(arrived, seconds, warn), daemon=True)
        watcher.start()
        try:
            item = next(items)
        except StopIteration:
            return
        finally:
            arrived.set()
            watcher.join()
        yield item


def _watch(arrived: threading.Event, seconds: float, warn: Callable[[float], None]) -> None:
    waited = 0.0
    while not arrived.wait(seconds):
        waited += seconds
        warn(waited)
