"""The same work on many things, in one process or several."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

from clips4.errors import UserError
from clips4.utils.progress import NoProgress, ProgressReporter

T = TypeVar("T")
R = TypeVar("R")


def each(
    stage: str, work: Callable[[T], R], jobs: Sequence[T], workers: int, progress: ProgressReporter | None
) -> Iterator[R]:
    """Results in the order of the jobs, told to the listener one by one."""
    progress = progress or NoProgress()
    progress.stage(stage, len(jobs))
    with _mapper(workers) as mapper:
        for result in mapper(work, jobs):
            yield result
            progress.advance({})


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[[Callable[[T], R], Sequence[T]], Iterable[R]]]:
    if workers < 1:
        raise UserError(f"--workers {workers}: give 1 or more processes")
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield lambda work, jobs: pool.map(work, jobs, chunksize=max(1, min(32, len(jobs) // (4 * workers))))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
