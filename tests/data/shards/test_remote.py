"""Shards in stores, by fsspec's memory and a server on this machine."""

import functools
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from clips4.data.image_source import find_training_images, open_source
from clips4.data.shards import remote
from clips4.data.shards.files import expand_shards
from clips4.data.shards.remote import address_of, check_writable, shard_exists, shard_stamp, whole_shard
from clips4.data.shards.samples import count_images, read_shard
from clips4.data.shards.stream import read_forever, read_once
from clips4.errors import UserError
from tests.data.shards.helpers import no_skips, write_shards
from tests.helpers import write_images


class Broken(MemoryFileSystem):
    """A store that fails: at what its address names, or while a file is read."""

    protocol = "broken"

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        errors = {"denied": PermissionError("Forbidden"), "keys": RuntimeError("Unable to locate credentials")}
        if error := next((error for name, error in errors.items() if name in path), None):
            raise error
        return super().info(path)

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        file = super().open(path, mode)

        class Cut:
            def read(self, size: int) -> bytes:
                if file.tell() > 0:
                    raise ConnectionResetError("reset by peer")
                return file.read(2048)

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

        return Cut()


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    """An empty store at memory://, and a broken one."""
    fsspec.register_implementation("broken", Broken, clobber=True)
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a server of ``tmp_path``, which knows no ranges."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize("kind", [str, Path])
def test_address_of_paths_that_hold_addresses(kind: type) -> None:
    assert address_of(kind("s3://a/b.tar")) == "s3://a/b.tar"
    assert address_of(kind("file:///a/b.tar")) == "/a/b.tar"
    assert address_of(kind("a/b.tar")) == "a/b.tar"
    assert address_of(kind("C:/a/b.tar")) == "C:/a/b.tar"


def test_remote_shards_give_the_samples_of_local_ones(tmp_path: Path, store: MemoryFileSystem, server: str) -> None:
    paths = write_shards(tmp_path, [7, 3, 0, 10, 1])
    store.put(str(tmp_path), "/set", recursive=True)
    expected = [data for _, data in read_once(paths, 0, 1, no_skips)]
    mixed = [data for _, data in zip(range(40), (s.data for s in read_forever(paths, 3, 1, 2, 5)), strict=False)]
    for place in ("memory://set", server, f"file://{tmp_path}"):
        shards = expand_shards(Path(f"{place}/{{00..04}}.tar"))
        assert [Path(shard).name for shard in shards] == [Path(path).name for path in paths]
        assert [sample.data for sample in read_once(shards, 0, 1, no_skips)] == expected
        assert sum(map(count_images, shards)) == 21
        resumed = (sample.data for sample in read_forever(shards, 3, 1, 2, 5))
        assert [data for _, data in zip(range(40), resumed, strict=False)] == mixed


def test_training_source_of_remote_shards_is_that_of_local_ones(tmp_path: Path, store: MemoryFileSystem) -> None:
    images = write_images(tmp_path / "in", 4)
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for path in images[2 * number : 2 * number + 2]:
                tar.add(path, path.name)
        store.put(str(tmp_path / f"{number}.tar"), f"/set/{number}.tar")
    near, far = (
        open_source(find_training_images([Path(f"{place}/{{0..1}}.tar")])) for place in (tmp_path, "memory://set")
    )
    assert (near.digest, near.sizes()) == (far.digest, far.sizes())
    assert [str(each.image) for each in near.iterate(64, 0, 1)] == [str(each.image) for each in far.iterate(64, 0, 1)]


@pytest.mark.parametrize("whole", [True, False])
def test_whole_shard_appears_at_the_end_or_not_at_all(
    store: MemoryFileSystem, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "WHOLE", {"memory"} if whole else set())

    def write(text: bytes, error: bool) -> None:
        with whole_shard(Path("memory://out/0.tar")) as file:
            file.write_bytes(text)
            assert not error, "stopped"

    with pytest.raises(AssertionError, match="stopped"):
        write(b"part", True)
    assert not shard_exists("memory://out/0.tar")
    write(b"first", False)
    stamp = shard_stamp("memory://out/0.tar")
    assert stamp == shard_stamp("memory://out/0.tar")
    write(b"other", False)
    assert shard_stamp("memory://out/0.tar") != stamp
    assert store.find("/out") == ["/out/0.tar"]
    assert store.cat("/out/0.tar") == b"other"


def test_read_shard_broken_connection_is_no_damaged_shard(tmp_path: Path, store: MemoryFileSystem) -> None:
    (path,) = write_shards(tmp_path, [9])
    place = "broken://set/0.tar"
    store.store[place] = MemoryFile(store, place, Path(path).read_bytes())
    with pytest.raises(
        UserError, match=r"broken://set/0\.tar: cannot be reached \(ConnectionResetError: reset by peer"
    ):
        list(read_shard(place, no_skips))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://set/{0..3}.tar", r"memory://set/0\.tar: no such object, one of 4 of memory://set/\{0"),
        ("broken://denied/0.tar", r"denied/0\.tar: no access \(Forbidden\); set the credentials of broken://"),
        ("broken://keys/0.tar", "no access .Unable to locate credentials.; set the credentials"),
        ("nowhere://a/0.tar", "nowhere://a/0.tar: Protocol not known: nowhere; give a path"),
        ("http://127.0.0.1:1/0.tar", "cannot be reached .ClientConnectorError"),
        ("SERVER/gone.tar", r"/gone\.tar: no such object$"),
    ],
)
def test_expand_shards_error_of_a_store_is_one_line(
    store: MemoryFileSystem, server: str, address: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        expand_shards(Path(address.replace("SERVER", server)))
    assert "\n" not in str(caught.value)


def test_missing_package_of_a_protocol_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=r"s3://a/0\.tar: Install s3fs .*; pip install 'clips4\[remote\]' has what"):
        expand_shards("s3://a/0.tar")


def test_check_writable_server_is_refused() -> None:
    check_writable("memory://a/0.tar")
    with pytest.raises(UserError, match="http is only read"):
        check_writable(Path("https://a/0.tar"))
