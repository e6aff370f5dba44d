"""Locks of a folder that several ranks write to."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clips4.errors import UserError
from clips4.utils.atomic_io import lock_folder
from clips4.utils.output_folder.ranks import leave_ranks, lock_for_rank, take_turn

HOLD = """
import sys
from pathlib import Path
from clips4.utils.output_folder.ranks import lock_for_rank
with lock_for_rank(Path(sys.argv[1]), int(sys.argv[2])):
    print("in", flush=True)
    sys.stdin.read()
"""
TRY = """
import sys
from pathlib import Path
from clips4.utils.atomic_io import lock_folder
from clips4.utils.output_folder.ranks import lock_for_rank
with lock_for_rank(Path(sys.argv[1]), int(sys.argv[2])) if sys.argv[2:] else lock_folder(Path(sys.argv[1])):
    print("in")
"""


@contextmanager
def other_rank(folder: Path, rank: int) -> Iterator[None]:
    command = [sys.executable, "-c", HOLD, str(folder), str(rank)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        try:
            yield
        finally:
            process.kill()


def test_lock_for_rank_other_ranks_enter_and_other_jobs_do_not(tmp_path: Path) -> None:
    with other_rank(tmp_path, 1):
        with pytest.raises(UserError, match="is writing there"), lock_for_rank(tmp_path, 1):
            pass
        with pytest.raises(UserError, match="is writing there"), lock_folder(tmp_path):
            pass
        living = tmp_path / ".a.png.1-01234567.part"
        living.touch()
        with lock_for_rank(tmp_path, 0):
            assert living.exists(), "it may belong to the other rank"
    with lock_for_rank(tmp_path, 0):  # the other one was killed
        assert not living.exists()
        with take_turn(tmp_path):
            pass
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_leave_ranks_of_the_last_living_rank_is_true(tmp_path: Path) -> None:
    with lock_for_rank(tmp_path, 0):
        with other_rank(tmp_path, 1), take_turn(tmp_path):
            assert not leave_ranks(tmp_path, 0)
            assert not leave_ranks(tmp_path, 0), "who left may ask again"
        with take_turn(tmp_path):
            assert leave_ranks(tmp_path, 0), "the other one was killed, and left nothing but its file"
    with other_rank(tmp_path, 0), lock_for_rank(tmp_path, 1), take_turn(tmp_path):
        assert not leave_ranks(tmp_path, 1)


@pytest.mark.parametrize("holder", ["command", "rank"])
def test_lock_for_rank_and_lock_folder_keep_each_other_out(tmp_path: Path, holder: str) -> None:
    with lock_folder(tmp_path) if holder == "command" else lock_for_rank(tmp_path, 0):
        other = ["0"] if holder == "command" else []
        command = [sys.executable, "-c", TRY, str(tmp_path), *other]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "in\n" not in done.stdout
    assert "is writing there" in done.stderr
