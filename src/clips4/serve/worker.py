"""One model, one thread, and a bounded queue before it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
QUEUE = 64  # calls that wait; more are refused, so that memory and waiting time are bounded
QUEUE_OF_ONE = 16  # of them, those of one session


class BusyError(Exception):
    """Too many calls wait."""


class Worker:
    """Runs functions one after the other in a thread of its own; called from one event loop.

    Args:
        limit: calls that may wait or run at a time.
        limit_of_one: the same for one caller.
    """

    def __init__(self, limit: int = QUEUE, limit_of_one: int = QUEUE_OF_ONE):
        self._limit, self._limit_of_one = limit, limit_of_one
        self._waiting: dict[str, int] = {}
        self._pool = ThreadPoolExecutor(1, "clips4-model")

    async def run(self, caller: str, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The function's result.

        Raises:
            BusyError: the queue is full.
        """
        if sum(self._waiting.values()) >= self._limit or self._waiting.get(caller, 0) >= self._limit_of_one:
            raise BusyError
        self._waiting[caller] = self._waiting.get(caller, 0) + 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **kwargs))
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not self._waiting

    def close(self) -> None:
        """Drop what waits; what runs is completed."""
        self._pool.shutdown(wait=False, cancel_futures=True)
