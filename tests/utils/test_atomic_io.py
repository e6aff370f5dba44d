"""Files and folders appear whole or not at all, whoever else writes them at that moment."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from clips4.errors import UserError
from clips4.utils.atomic_io import (
    LOCK,
    atomic_folder,
    atomic_text_file,
    lock_file,
    lock_folder,
    remove_leftovers,
    temporary_path,
    write_atomically,
)


def test_writing_makes_folders_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize("failing", ["os.replace", "pathlib.Path.write_bytes"])
def test_failed_write_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(failing, fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_cut_in_the_middle_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def half(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_threads_that_are_both_midway_may_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both_have_written = threading.Barrier(2, timeout=60)
    write = Path.write_bytes

    def write_and_wait(self: Path, data: bytes) -> int:
        count = write(self, data)
        both_have_written.wait()
        return count

    monkeypatch.setattr(Path, "write_bytes", write_and_wait)
    path, contents = tmp_path / "file.bin", [b"one" * 1000, b"another" * 1000]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda data: write_atomically(path, data), contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_paths_are_hidden_of_the_same_folder_and_never_twice_the_same(tmp_path: Path) -> None:
    names = [temporary_path(tmp_path / "file.png") for _ in range(100)]
    assert len(set(names)) == 100
    assert all(name.parent == tmp_path and name.name.startswith(".file.png.") for name in names)
    assert all(name.suffix == ".part" for name in names)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_file_written_piece_by_piece_is_there_at_the_end_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic_text_file(path) as file:
        file.write("old")
        assert not path.exists()

    def fail_midway() -> None:
        with atomic_text_file(path) as file:
            file.write("half")
            raise error

    with pytest.raises(error):
        fail_midway()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_folder_replaces_the_old_one_when_complete(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic_folder(path) as folder:
            (folder / name).write_text(name)
        assert [each.name for each in path.iterdir()] == [name], "nothing of the one before stays"

    def fail_midway() -> None:
        with atomic_folder(path) as folder:
            (folder / "third").write_text("third")
            raise error

    with pytest.raises(error):
        fail_midway()
    assert [each.name for each in path.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]


def hold(path: Path, function: str = "lock_folder") -> subprocess.Popen[str]:
    """Another process that holds a lock until it is killed."""
    code = f"""
import sys, time
from pathlib import Path
from clips4.utils.atomic_io import {function}
with {function}(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


@pytest.mark.parametrize("function", [lock_folder, lock_file])
def test_lock_of_a_living_process_raises_and_of_a_killed_one_is_taken(
    tmp_path: Path, function: Callable[[Path], AbstractContextManager[None]]
) -> None:
    child = hold(tmp_path / "out", function.__name__)
    try:
        words = rf"out: process {child.pid} on .* is writing there; wait until it ends"
        with pytest.raises(UserError, match=words), function(tmp_path / "out"):
            pass
    finally:
        child.kill()
        child.wait()
    with function(tmp_path / "out"):
        pass
    assert not list(tmp_path.rglob("*.lock"))


def test_lock_folder_clears_what_killed_processes_left_and_nothing_else(tmp_path: Path) -> None:
    kept = ["a.png", ".hidden", ".a.part", "b.12-deadbeef.part", ".clips4/a.json", "deep/.x.y"]
    left = [".0.npz.99999-deadbeef.part", "yolo/labels/.a.txt.7-00000000.part", "checkpoints/.step-3.123.old/x"]
    for name in kept + left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to(tmp_path.parent)
    with lock_folder(tmp_path):
        assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() and p.name != LOCK) == (
            sorted(kept)
        )


def test_lock_file_clears_leftovers_of_its_name_alone(tmp_path: Path) -> None:
    for name in (".m.onnx.7-00000000.part", ".n.onnx.7-00000000.part", ".run.7-00000000.old"):
        (tmp_path / name).write_text("x")
    with lock_file(tmp_path / "m.onnx"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".n.onnx.7-00000000.part", ".run.7-00000000.old"]


def test_lock_folder_after_an_error_leaves_no_new_folder(tmp_path: Path) -> None:
    for failing in (True, False):
        with suppress(UserError), lock_folder(tmp_path / "out"):
            if failing:
                raise UserError("no")
            (tmp_path / "out" / "a").write_text("x")
        assert (tmp_path / "out").exists() != failing
    with pytest.raises(UserError, match="is a file; give a folder"), lock_folder(tmp_path / "out" / "a"):
        pass


def test_remove_leftovers_of_a_shared_folder_spares_the_young_and_those_of_the_future(tmp_path: Path) -> None:
    for name, age in (("old", 7200), ("young", 5), ("future", -7200)):
        path = tmp_path / f".{name}.7-00000000.part"
        path.write_text("x")
        os.utime(path, (time.time() - age,) * 2)
    remove_leftovers(tmp_path, age=3600)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".future.7-00000000.part", ".young.7-00000000.part"]


def test_write_atomically_full_disk_error_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "a.png", b"x")
    assert caught.value.filename == str(tmp_path / "a.png")


def test_write_atomically_folder_removed_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "a/b.png", Path.write_bytes

    def write_once_gone(self: Path, data: bytes) -> int:
        monkeypatch.setattr(Path, "write_bytes", write)
        self.parent.rmdir()
        return self.write_bytes(data)

    monkeypatch.setattr(Path, "write_bytes", write_once_gone)
    write_atomically(path, b"labels")
    assert path.read_bytes() == b"labels"
