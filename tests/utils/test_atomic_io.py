"""Files and folders appear whole or not at all, whoever else writes them at that moment."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clips4.utils.atomic_io import atomic_folder, atomic_text_file, temporary_path, write_atomically


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
