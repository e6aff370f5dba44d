"""The same work on many items: order, errors, Ctrl-C, a worker that dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clips4.errors import UserError
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.parallel import map_items, workers_for


def process_and_double(number: int) -> tuple[int, int]:
    return os.getpid(), 2 * number


def slow_first(number: int) -> int:
    time.sleep(0.2 if number == 0 else 0)
    return number


def threads_allowed(_: int) -> str:
    return os.environ["OMP_NUM_THREADS"]


def die(_: int) -> None:
    os._exit(1)


def fail(_: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("workers", [1, 2])
def test_map_items_any_workers_yields_items_with_results(workers: int) -> None:
    found = list(map_items(process_and_double, range(40), workers))
    assert [(item, double) for item, (_, double) in found] == [(n, 2 * n) for n in range(40)]
    assert {process == os.getpid() for _, (process, _) in found} == {workers == 1}


def test_map_items_slow_item_keeps_the_order() -> None:
    assert [item for item, _ in map_items(slow_first, range(6), 2)] == list(range(6))


def test_map_items_workers_have_one_thread_and_environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert {threads for _, threads in map_items(threads_allowed, range(4), 2)} == {"1"}
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("workers", [1, 2])
def test_map_items_interrupt_stops_between_items(workers: int) -> None:
    done = []
    with deferred_interrupt() as interrupted:
        for item, _ in map_items(process_and_double, range(200), workers, interrupted):
            done.append(item)
            if len(done) == 3:
                os.kill(os.getpid(), signal.SIGINT)
    assert 3 <= len(done) < 200
    assert len(set(done)) == len(done)


def test_map_items_worker_dies_raises_one_line() -> None:
    with pytest.raises(UserError, match="a worker process died"):
        list(map_items(die, range(3), 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_map_items_work_raises_raises(workers: int) -> None:
    with pytest.raises(OSError, match="No space left"):
        list(map_items(fail, range(6), workers))


def test_map_items_no_workers_raises() -> None:
    with pytest.raises(UserError, match="1 or more processes"):
        list(map_items(die, range(3), 0))


def test_map_items_killed_process_leaves_no_workers(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(
        "import os, time\n"
        "from clips4.utils.parallel import map_items, workers_for\n"
        "def work(item):\n    time.sleep(0.2)\n    return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    for _, process in map_items(work, range(1000), 2):\n        print(process, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, tmp_path / "work.py"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.kill()
        process.stdout.read()  # ends when no worker holds it any more


def with_limit(soft: int, hard: int, body: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that may have so many files open."""
    setup = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))"
    program = f"from clips4.utils.parallel import allow_open_files\n{setup}\n{body}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_allow_open_files_raises_a_low_limit_as_far_as_allowed() -> None:
    body = "allow_open_files(2, {}); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    assert with_limit(40, 1000, body.format(10)).stdout == "74\n"
    assert with_limit(40, 100, body.format(500)).stdout == "100\n"
    assert with_limit(90, 100, body.format(0)).stdout == "90\n", "never lowered"


def test_allow_open_files_too_few_for_workers_raises_with_advice() -> None:
    done = with_limit(24, 24, "allow_open_files(2)")
    assert "only 24 files may be open at once, and worker processes need 64; raise the limit (ulimit" in done.stderr
    assert with_limit(24, 24, "allow_open_files(0)").returncode == 0


def test_workers_for_few_files_is_one_process() -> None:
    assert workers_for(10) == 1
    assert 1 <= workers_for(100_000) <= 8
