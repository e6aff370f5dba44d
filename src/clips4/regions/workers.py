"""Work on many pictures by a pool of processes: broken ones are reported, Ctrl-C stops between pictures."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from clips4.data.image_folder import Skipped
from clips4.errors import UserError
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.progress import ProgressReporter

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_AHEAD = 2  # pictures per worker that are handed out at a time, so that Ctrl-C need not wait for many


@dataclass
class JobOutcome:
    """What became of the pictures.

    Attributes:
        done: those worked on.
        skipped: those left out, with the reason.
        interrupted: whether Ctrl-C came before the end.
    """

    done: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    interrupted: bool = False


def for_each_image(
    work: Callable[[Path, str], None],
    paths: Sequence[Path],
    stems: Sequence[str],
    workers: int,
    progress: ProgressReporter,
) -> JobOutcome:
    """Call ``work(path, stem)`` for every picture.

    Args:
        work: can be pickled; raises UserError for a picture that cannot be used, which is skipped.
        paths: pictures.
        stems: their names among the files written.
        workers: processes; with 1 the work is done in this one.
        progress: told of each picture that is done or skipped.

    Raises:
        UserError: a worker died.
    """
    outcome = JobOutcome()
    tasks = list(zip(paths, stems, strict=True))
    with deferred_interrupt() as interrupted:
        if workers <= 1:
            for path, stem in tasks:
                if interrupted():
                    outcome.interrupted = True
                    break
                _note(outcome, path, attempt(work, path, stem), progress)
        else:
            _in_pool(work, tasks, workers, interrupted, outcome, progress)
    return outcome


def _in_pool(
    work: Callable[[Path, str], None],
    tasks: list[tuple[Path, str]],
    workers: int,
    interrupted: Callable[[], bool],
    outcome: JobOutcome,
    progress: ProgressReporter,
) -> None:
    left, running = iter(tasks), dict[Future[str | None], Path]()
    try:
        with _one_thread_each(), ProcessPoolExecutor(workers, _context(), _quiet) as pool:
            while True:
                while not interrupted() and len(running) < _AHEAD * workers and (task := next(left, None)):
                    running[pool.submit(attempt, work, *task)] = task[0]
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    _note(outcome, running.pop(future), future.result(), progress)
    except BrokenProcessPool:
        raise UserError("a worker process died, perhaps for lack of memory; give fewer --workers")
    outcome.interrupted = interrupted() and len(outcome.done) + len(outcome.skipped) < len(tasks)


def attempt(work: Callable[[Path, str], None], path: Path, stem: str) -> str | None:
    """Do the work; the reason where the picture cannot be used."""
    try:
        work(path, stem)
    except UserError as error:
        return str(error)
    return None


def _note(outcome: JobOutcome, path: Path, reason: str | None, progress: ProgressReporter) -> None:
    if reason is None:
        outcome.done.append(path)
    else:
        outcome.skipped.append(Skipped(path, reason))
    progress.advance({})


def _context() -> multiprocessing.context.BaseContext:
    """Workers never begin as copies of a process that has threads; where there is a fork server, it imports once."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["clips4.regions.job"])
        return context
    return multiprocessing.get_context("spawn")


def _quiet() -> None:
    """In a worker: Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started meanwhile compute with one thread, else the workers' threads are in each other's way.

    The libraries read that from the environment when they are imported, so it has to be there before a worker is.
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
