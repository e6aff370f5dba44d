"""The pipeline of every job over many images: read ahead, one network, finish behind.

Threads decode the next images while the network computes, and others encode and write the results of the last ones;
both queues are bounded, so that memory does not grow with the number of images. Results come in the order of the items,
and what is written does not depend on the number of threads.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from clips4.utils.parallel import map_ahead

T = TypeVar("T")
Read = TypeVar("Read")
Predicted = TypeVar("Predicted")
Finished = TypeVar("Finished")

_READERS = 2
_FINISHERS = min(8, max(2, os.cpu_count() or 1))


def process_images(
    items: Iterable[T],
    read: Callable[[T], Read | None],
    predict: Callable[[list[Read]], Iterable[Predicted]],
    finish: Callable[[T, Predicted], Finished],
    batch: int = 1,
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[T, Future[Finished | None]]]:
    """Each item with the future of what ``finish`` returns for it, in the order of the items.

    Args:
        items: taken a few at a time, so that they may be a stream.
        read: decodes an item, in a thread; None leaves the item out: its future has the result None.
        predict: results of several images, in their order; in the caller's thread, which alone uses the network.
        finish: encodes and writes a result, in a thread.
        batch: images that ``predict`` gets at once. Where it raises for several, it gets each alone, so that only the
            image that is to blame fails.
        interrupted: once it returns True no further image is predicted; those that were are finished.

    Yields:
        The item and its future, which raises what ``read``, ``predict`` or ``finish`` raised for it. Between two items
        nothing is computed beyond the queues; a caller that stops iterating ends all threads.

    Example:
        >>> steps = process_images([1, 2], float, lambda many: [2 * each for each in many], lambda _, each: str(each))
        >>> [(item, future.result()) for item, future in steps]
        [(1, '2.0'), (2, '4.0')]
    """
    pool = ThreadPoolExecutor(_FINISHERS, "finish")
    finishing: deque[tuple[T, Future[Finished | None]]] = deque()

    def predict_group(group: list[tuple[T, Read]]) -> None:
        try:
            results = list(predict([image for _, image in group]))
        except Exception as error:
            if len(group) == 1:
                finishing.append((group[0][0], _failed(error)))
                return
            for one in group:
                predict_group([one])
        else:
            for (item, _), result in zip(group, results, strict=True):
                finishing.append((item, pool.submit(finish, item, result)))

    try:
        group: list[tuple[T, Read]] = []
        for item, future in map_ahead(read, items, _READERS, _READERS + batch):
            if interrupted():
                break
            error = future.exception()
            image = None if error else future.result()
            if image is not None:
                group.append((item, image))
            if group and (image is None or len(group) == batch):
                predict_group(group)
                group = []
            if image is None:
                finishing.append((item, _failed(error) if error else _nothing()))
            while finishing and (finishing[0][1].done() or len(finishing) > _FINISHERS):
                yield finishing.popleft()
        if group and not interrupted():
            predict_group(group)
        yield from finishing
    finally:
        pool.shutdown(cancel_futures=True)


def _failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _nothing() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(None)
    return future
