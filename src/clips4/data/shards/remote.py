"""Shards that lie elsewhere, by fsspec: s3://, gs://, https:// and others; an address without a protocol is a path.

Paths hold addresses too: ``Path("s3://a/b.tar")`` is ``s3:/a/b.tar``, and ``address_of`` undoes that. Every error of a
store is one line; none is taken for a damaged shard, which would leave images out.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

from clips4.errors import UserError
from clips4.utils.atomic_io import atomic_file, lock_file
from clips4.utils.extras import install_command
from clips4.utils.output_folder.manifest import file_stamp

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)  # not a Windows drive, which is one letter
_HTTP = ("http", "https")
# an object appears there when all of it was sent; elsewhere it is sent under another name, then moved
WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss"}
_LISTED = 8  # objects of one folder from which on it is listed once


def address_of(path: str | Path) -> str:
    """The address that a path holds, or the path as it is.

    Example:
        >>> address_of(Path("s3://shards/0.tar")), address_of("file:///data/0.tar"), address_of(Path("0.tar"))
        ('s3://shards/0.tar', '/data/0.tar', '0.tar')
    """
    found = _ADDRESS.fullmatch(str(path))
    if found is None:
        return str(path)
    return f"/{found[2]}" if found[1] in ("file", "local") else f"{found[1]}://{found[2]}"


def is_remote(address: str | Path) -> bool:
    """Whether fsspec reads it."""
    return _protocol(address_of(address)) != ""


def shard_size(shard: str | Path) -> int | None:
    """Bytes of a shard; None if there is none, or a server does not say."""
    address = address_of(shard)
    if not is_remote(address):
        return Path(address).stat().st_size if Path(address).exists() else None
    size = (_info(address) or {}).get("size")
    return None if size is None else int(size)


def shard_exists(shard: str | Path) -> bool:
    """Whether there is such a file or object."""
    address = address_of(shard)
    return _info(address) is not None if is_remote(address) else Path(address).exists()


def shard_stamp(shard: str | Path) -> list[int | str]:
    """What changes with a shard's content: ``manifest.file_stamp``, or size and the store's own mark of the version."""
    address = address_of(shard)
    if not is_remote(address):
        return list(file_stamp(Path(address)))
    files, path = _file_system(address)
    with _one_line(address):
        return [shard_size(address) or 0, str(files.ukey(path))]


def missing_objects(addresses: Sequence[str]) -> Iterator[str]:
    """Those of remote addresses at which there is nothing."""
    folders = {address.rpartition("/")[0] for address in addresses}
    if len(addresses) > _LISTED * len(folders):
        for folder in folders:
            if _protocol(folder) not in _HTTP:
                files, path = _file_system(folder)
                with suppress(Exception):  # each object is asked for below
                    files.ls(path)  # which many stores remember
    yield from (address for address in addresses if _info(address) is None)


@contextmanager
def open_shard(shard: str | Path) -> Iterator[tuple["io.BufferedReader[Any]", int]]:
    """A shard to read from and its size in bytes; of a server, a copy, which takes as much space on disk.

    Raises:
        UserError: a remote one cannot be read, now or later.
        OSError: a local one cannot be read.
    """
    address = address_of(shard)
    if not is_remote(address):
        with Path(address).open("rb") as local:
            if not Path(address).is_file():
                raise OSError("not a regular file")
            yield local, Path(address).stat().st_size
        return
    files, path = _file_system(address)
    if _protocol(address) in _HTTP:  # a slow reader would lose its connection, and not every server can seek
        with TemporaryDirectory(prefix="clips4-") as folder:
            with _one_line(address):
                files.get_file(path, f"{folder}/shard")
            with Path(folder, "shard").open("rb") as copy:
                yield copy, Path(folder, "shard").stat().st_size
        return
    size = shard_size(address)
    if size is None:
        raise UserError(f"{address}: no such object")
    with _one_line(address):
        file = files.open(path, "rb")
    with io.BufferedReader(_Reader(file, address), 2**20) as reader:
        yield reader, size


@contextmanager
def whole_shard(shard: str | Path) -> Iterator[Path]:
    """A file to write a shard to; at the end the shard appears as a whole, after an error there is none.

    Raises:
        UserError: another process writes it, or a store refuses it.
    """
    address = address_of(shard)
    if not is_remote(address):
        with lock_file(Path(address)), atomic_file(Path(address)) as temporary:
            yield temporary
        return
    with TemporaryDirectory(prefix="clips4-") as folder:
        yield Path(folder, "shard")
        files, path = _file_system(address)
        with _one_line(address):
            if _protocol(address) in WHOLE:
                files.put_file(f"{folder}/shard", path)
            else:
                files.put_file(f"{folder}/shard", f"{path}.part")
                files.mv(f"{path}.part", path)


def check_writable(shard: str | Path) -> None:
    """Refuse a protocol that only reads.

    Raises:
        UserError: it is one, or is not installed.
    """
    address = address_of(shard)
    if _protocol(address) in _HTTP:
        raise UserError(f"{address}: http is only read; write to a path, or to an address such as s3://")
    if is_remote(address):
        _file_system(address)


class _Reader(io.RawIOBase):
    """A remote file whose errors are ``UserError``.

    Args:
        file: opened by fsspec.
        address: named in errors.
    """

    def __init__(self, file: BinaryIO, address: str):
        self._file, self._address = file, address

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _one_line(self._address):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _one_line(self._address):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def _protocol(address: str) -> str:
    found = _ADDRESS.fullmatch(address)
    return found[1].lower() if found else ""


def _file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path there.

    Raises:
        UserError: its package is missing, or there is no such protocol.
    """
    with _one_line(address):
        from fsspec.core import url_to_fs

        return cast(tuple[Any, str], url_to_fs(address))


def _info(address: str) -> dict[str, Any] | None:
    """What a store knows of an object; None if there is none."""
    files, path = _file_system(address)
    with _one_line(address):
        try:
            return cast(dict[str, Any], files.info(path))
        except FileNotFoundError as error:
            if error.__cause__ is not None and getattr(error.__cause__, "status", None) != 404:
                raise error.__cause__  # fsspec says so of whatever a server answers, and of no answer
            return None


@contextmanager
def _one_line(address: str) -> Iterator[None]:
    """Turn the errors of a store into one line.

    Raises:
        UserError: with the address, what is wrong, and what to do.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ImportError):
            raise UserError(f"{address}: {said}; {install_command('s3fs')} has what s3:// and gs:// need")
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{address}: no such object")
        if isinstance(error, ValueError) and "rotocol" in said:
            raise UserError(f"{address}: {said}; give a path, or an address such as s3://BUCKET/0000.tar")
        refused = isinstance(error, PermissionError) or getattr(error, "status", 0) in (401, 403)
        if refused or "credential" in f"{type(error).__name__} {said}".lower():
            raise UserError(
                f"{address}: no access ({said}); set the credentials of {_protocol(address)}:// as its package "
                "expects them, e.g. in environment variables"
            )
        raise UserError(f"{address}: cannot be reached ({type(error).__name__}: {said}); try again")
