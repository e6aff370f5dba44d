import sys
from pathlib import Path

import pytest

from clips4.data.shards.files import expand_shards, is_shard
from clips4.data.shards.stream import read_forever, read_once
from clips4.errors import UserError
from tests.data.shards.helpers import write_shards, write_tar


@pytest.mark.parametrize(
    "text",
    [
        "a.tar",
        "a/b.tar",
        "a/{000..031}.tar",
        "A.TAR",
        Path("a.tar"),
        "http://x/a.tar",
        "pipe:cat a",
        "a/train-0.parquet",
        "a.arrow",
    ],
)
def test_is_shard_of_tar_names_is_true(text: str | Path) -> None:
    assert is_shard(text)


@pytest.mark.parametrize("text", ["a.jpg", "tar", "a.tar.jpg", "folder/", "a.tar/000.jpg", "{a,b}.png", ""])
def test_is_shard_of_other_names_is_false(text: str) -> None:
    assert not is_shard(text)


def test_braces_are_expanded_and_each_file_comes_once_in_order(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, [1] * 12)
    assert expand_shards(str(tmp_path / "{00..11}.tar")) == paths
    assert expand_shards([tmp_path / "{09,01}.tar", paths[1], paths[5]]) == [paths[1], paths[5], paths[9]]
    assert expand_shards(Path(paths[3])) == [paths[3]]
    assert expand_shards(reversed(paths)) == paths


def test_braces_in_a_files_own_name(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "{a,b}.tar", [("0.jpg", b"x")])
    assert expand_shards(path) == [path]


def test_missing_shard_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, [1, 1])
    with pytest.raises(UserError, match=r"02\.tar: no such shard, one of 4 of .*00\.\.03"):
        expand_shards(str(tmp_path / "{00..03}.tar"))
    with pytest.raises(UserError, match=r"gone\.tar: no such shard$"):
        expand_shards(str(tmp_path / "gone.tar"))
    (tmp_path / "folder.tar").mkdir()
    with pytest.raises(UserError, match=r"folder\.tar: not a file"):
        expand_shards(str(tmp_path / "folder.tar"))


@pytest.mark.parametrize("kind", [str, Path])
def test_commands_are_refused(kind: type) -> None:
    with pytest.raises(UserError, match="commands are not run; give paths"):
        expand_shards(kind("pipe:cat a.tar"))


def test_open_braces_and_nothing_at_all_are_refused() -> None:
    with pytest.raises(UserError, match="the braces do not close"):
        expand_shards("a/{00..03.tar")
    with pytest.raises(UserError, match="no shards; give"):
        expand_shards([])
    for read in (read_once([], 0, 1), read_forever([], 0, 0, 1)):
        with pytest.raises(UserError, match="no shards; give"):
            next(read)


def test_missing_package_is_one_line_with_what_to_install(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(UserError, match=r"pip install 'clips4\[shards\]'"):
        expand_shards(paths)
