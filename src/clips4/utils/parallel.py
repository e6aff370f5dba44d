"""The same work on many items: in this process, in threads ahead of it, or in several processes."""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from clips4.errors import UserError

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

T = TypeVar("T")
R = TypeVar("R")

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_GRACE = 0.2  # seconds; SIGTERM to all processes of a job may reach a worker first
_OWN_FILES, _FILES_OF_A_WORKER = 48, 8  # files that are open at once: standard streams, libraries, caches; pipes, locks
_AHEAD = 8  # items per worker that are submitted before the oldest is done


def map_ahead(
    work: Callable[[T], R], items: Iterable[T], threads: int = 2, ahead: int = 4
) -> Iterator[tuple[T, Future[R]]]:
    """Each item with the future of ``work(item)``, in order; threads work on the next ``ahead`` items meanwhile.

    For work that releases the interpreter's lock, such as decoding images. Items are taken as they are needed, so that
    they may be a stream. Threads end when the iterator is exhausted or closed.
    """
    pool = ThreadPoolExecutor(threads, "ahead")
    running: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            running.append((item, pool.submit(work, item)))
            if len(running) > ahead:
                yield running.popleft()
        while running:
            yield running.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def workers_for(files: int) -> int:
    """A number of processes: one per core that this process may use, fewer for files that one reads in seconds."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores, 1 + files // 200)


def map_items(
    work: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    interrupted: Callable[[], bool] = lambda: False,
    preload: Sequence[str] = (),
) -> Iterator[tuple[T, R]]:
    """Each item with ``work(item)``, in the order of the items.

    Args:
        work: what to do; with several workers it and the items are pickled.
        workers: processes; with 1 the work is done in this one.
        interrupted: once it returns True no further item is started; those that are running are still yielded.
        preload: modules that every worker needs, imported once where the system has a fork server.

    Raises:
        UserError: fewer than one worker, or a worker died. What ``work`` raises is raised here.
    """
    if workers < 1:
        raise UserError(f"{workers} workers: give 1 or more processes")
    if workers > 1:
        yield from _map_in_pool(work, items, workers, interrupted, preload)
        return
    for item in items:
        if interrupted():
            return
        yield item, work(item)


def _map_in_pool(
    work: Callable[[T], R], items: Iterable[T], workers: int, interrupted: Callable[[], bool], preload: Sequence[str]
) -> Iterator[tuple[T, R]]:
    allow_open_files(workers)
    left = iter(items)
    running: deque[tuple[T, Future[R]]] = deque()
    with ProcessPoolExecutor(workers, _context(preload), _start_worker) as pool:
        try:
            while True:
                if interrupted():
                    running = deque((item, future) for item, future in running if not future.cancel())
                else:
                    with _one_thread_each():  # processes start when work is submitted
                        for item in left:
                            running.append((item, pool.submit(work, item)))
                            if len(running) >= _AHEAD * workers:
                                break
                if not running:
                    return
                item, future = running.popleft()
                yield item, future.result()
        except BrokenProcessPool:
            time.sleep(_GRACE)
            if interrupted():
                return
            raise UserError("a worker process died, perhaps for lack of memory; give fewer workers")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def allow_open_files(processes: int, each: int = 0) -> None:
    """Raise this process's limit of open files, which its worker processes inherit, as far as the system lets it.

    Too few would let a worker wait for ever: the thread that hands tensors to the other process ends.

    Args:
        processes: workers to come.
        each: files that a worker may hold open at once; fewer are no error.

    Raises:
        UserError: the system allows too few for the pipes and locks of so many workers.
    """
    if resource is None or not processes:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    least = _OWN_FILES + _FILES_OF_A_WORKER * processes
    most = least + each if hard == resource.RLIM_INFINITY else min(least + each, hard)
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if max(soft, most) < least:
        raise UserError(
            f"only {hard} files may be open at once, and worker processes need {least}; raise the limit "
            "(ulimit -n 1024), or use no workers (data.workers=0 in training, 1 for regions)"
        )


def _context(preload: Sequence[str]) -> multiprocessing.context.BaseContext:
    """Workers are never forked from a process that has threads; a fork server imports ``preload`` once for all."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(preload))
        return context
    return multiprocessing.get_context("spawn")


def _start_worker() -> None:
    """In a worker: the parent process handles Ctrl-C, and no worker outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()  # a parent that was killed ends no pool
        os._exit(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started meanwhile compute with one thread each, so that workers do not compete for cores.

    Numeric libraries read that from the environment when they are imported, so it is set before a worker starts.
    """
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ |= dict.fromkeys(_THREADS, "1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
