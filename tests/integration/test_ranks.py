"""Several processes segment together: their files are those of one process, also after one was killed."""

import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.helpers import photograph

pytestmark = pytest.mark.slow

# the command of a rank; with KILL=COUNT it kills itself when it would finish its output number COUNT
RANK = """
import os, signal, sys, tarfile
import clips4.inference.jobs.segment as job
from clips4.cli.app import main

honest = {"write_entry": job.write_entry, "addfile": tarfile.TarFile.addfile}
left = int(os.environ.get("KILL", 0))

def fatal(name):
    def call(*arguments):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return honest[name](*arguments)
    return call

job.write_entry, tarfile.TarFile.addfile = fatal("write_entry"), fatal("addfile")
main()
"""


def start(arguments: list[str], variables: dict[str, str]) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-c", RANK, "segment", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_ranks(arguments: list[str], kill: str = "0", slurm: bool = False) -> list[int]:
    """Exit codes of two ranks, of which the second kills itself."""
    names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS") if slurm else ("RANK", "WORLD_SIZE")
    ranks = [start(arguments, {names[0]: str(rank), names[1]: "2", "KILL": kill if rank else "0"}) for rank in range(2)]
    printed = [rank.communicate(timeout=120)[0] for rank in ranks]
    codes = [rank.returncode for rank in ranks]
    assert set(codes) <= {0, -signal.SIGKILL}, printed
    return codes


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_segment_two_ranks_write_the_files_of_one_process(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for seed in range(7):
        photograph(40, 64, seed).save(tmp_path / f"in/{seed}.png")
    (tmp_path / "in/broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    arguments = [str(tiny_run), str(tmp_path / "in"), "--save", "png,json,coco", "--device", "cpu", "--out", str(out)]
    one = start(arguments, {})
    printed = one.communicate(timeout=120)[0]
    assert one.returncode == 0, printed
    whole = contents(out)
    out.rename(tmp_path / "whole")
    assert run_ranks(arguments, kill="2") == [0, -signal.SIGKILL]
    assert len(list((out / ".clips4").glob("?.json"))) <= 6, "the killed rank left some undone"
    assert run_ranks(arguments, slurm=True) == [0, 0]
    assert contents(out) == whole


def test_segment_two_ranks_write_the_shards_of_one_process(tiny_run: Path, tmp_path: Path) -> None:
    for number in range(3):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for seed in range(3):
                photograph(40, 64, 3 * number + seed).save(tmp_path / "image.png")
                tar.add(tmp_path / "image.png", f"{seed}.png")
    shards = str(tmp_path / "{0..2}.tar")
    arguments = [str(tiny_run), shards, "--save", "png,overlay,json", "--device", "cpu", "--out"]
    one = start([*arguments, str(tmp_path / "one/{shard}.tar")], {})
    printed = one.communicate(timeout=120)[0]
    assert one.returncode == 0, printed
    ranks = [*arguments, str(tmp_path / "two/{shard}.tar")]
    assert run_ranks(ranks, kill="5") == [0, -signal.SIGKILL]
    assert sorted(path.name for path in (tmp_path / "two").glob("[0-9].tar")) == ["0.tar", "2.tar"]
    finished = (tmp_path / "two/0.tar").stat().st_mtime_ns
    assert run_ranks(ranks) == [0, 0]
    assert (tmp_path / "two/0.tar").stat().st_mtime_ns == finished, "what is done is not done again"
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
