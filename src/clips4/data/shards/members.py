"""Members of a tar file, one at a time in memory and never written anywhere.

Links, devices, sparse files, and names that lead out of a folder are skipped; a damaged file ends with a reason.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from clips4.data.image_folder import SkippedImage
from clips4.data.shards.remote import open_shard
from clips4.errors import UserError

# in order of preference: a sample with a .jpg and a .png is usually a photograph and its mask
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp")
FREE, MAX_RATIO = 2**28, 100  # bytes that any shard may unpack to; beyond, times the bytes of its file

_META = re.compile(r"__[^/]*__($|/)")  # members that webdataset ignores
_BLOCK = 512  # bytes; tar files consist of such blocks, and at least the last is all zeros
_MAX_HEADER, _MAX_IMAGE = 2**16, 2**28  # bytes of a member's header, of an image
_DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# what tarfile and the decompressors raise for damaged or hostile files
_DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, ArithmeticError, LookupError)

OnSkip = Callable[[SkippedImage], None]


class _Stream(io.RawIOBase):
    """The unpacked bytes of a shard as tarfile reads them: headers of limited size, no endless zeros, an end.

    Attributes:
        header: bytes of the last header read.

    Args:
        file: of the bytes.
        limit: number of bytes at most.
        why: message where there would be more.
    """

    def __init__(self, file: BinaryIO, limit: int, why: str):
        self._file, self._limit, self._why, self._empty, self.header = file, limit, why, 0, b""

    def read(self, size: int = -1) -> bytes:
        """Bytes of a header.

        Raises:
            tarfile.ReadError: too many, or again at the end.
        """
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.header = self.data(size)
        return self.header

    def data(self, size: int) -> bytes:
        """Bytes of a member; see ``read``."""
        self.require(self._file.tell())
        found = self._file.read(size)
        self._empty = self._empty + 1 if size and not found else 0
        if self._empty > 2:  # tarfile would look for the rest of a sparse file's map forever
            raise tarfile.ReadError("unexpected end of data")
        return found

    def require(self, end: int) -> None:
        """Refuse to go beyond the limit.

        Raises:
            tarfile.ReadError: ``end`` is.
        """
        if end > self._limit:
            raise tarfile.ReadError(self._why)

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place within the limit; in a compressed file all before it is unpacked."""
        if whence == os.SEEK_SET:
            self.require(place)
        return self._file.seek(place, whence)


def read_members(
    shard: str, problems: list[str], on_skip: OnSkip | None, with_data: bool = True
) -> Iterator[dict[str, Any]]:
    """Members as webdataset gives them, images with their data; problems of the whole shard are appended."""
    try:
        with open_shard(shard) as (raw, size):
            start = raw.peek(_BLOCK)
            unpack = next((each for magic, each in _DECOMPRESSORS.items() if start.startswith(magic)), None)
            with cast(BinaryIO, unpack(raw)) if unpack else raw as file:
                most = f"unpacks to more than {MAX_RATIO} times its size"
                limit, why = (max(FREE, MAX_RATIO * size), most) if unpack else (size, "unexpected end of data")
                stream = _Stream(file, limit, why)
                yield from _read_members(stream, shard, on_skip, with_data)
                problems += _unread(stream, unpack is None)
    except UserError:  # of a store, which says nothing of the shard
        raise
    except RecursionError:
        problems.append("headers of headers")
    except _DAMAGE as error:
        problems.append(getattr(error, "strerror", None) or str(error) or type(error).__name__)
    yield {}  # marks the end for webdataset


def _read_members(stream: _Stream, shard: str, on_skip: OnSkip | None, with_data: bool) -> Iterator[dict[str, Any]]:
    with tarfile.open(fileobj=cast(Any, stream), mode="r:") as tar:
        while (member := tar.next()) is not None:
            cast(Any, tar).members.clear()  # tarfile keeps all headers
            # of what is stored; a sparse file names a larger size
            end = tar.offset - _BLOCK + 1 if member.issparse() else member.offset_data + member.size
            if member.size < 0 or end < 0:
                raise tarfile.ReadError("a member of negative size")
            stream.require(end)
            if reason := _refusal(member):
                if on_skip and is_image(member.name):
                    name = f"{shard}/{member.name}"
                    on_skip(SkippedImage(Path(name), f"{name}: {reason}; it is skipped"))
                continue
            if not member.isreg() or _META.match(member.name):
                continue
            data = b""
            if with_data and is_image(member.name):
                stream.seek(member.offset_data)
                data = stream.data(member.size)
            elif member.size:
                stream.seek(member.offset_data + member.size - 1)
            if member.size and len(data or stream.data(1)) < (member.size if data else 1):
                raise tarfile.ReadError("unexpected end of data")
            yield {"fname": member.name, "data": data, "__url__": shard}


def _refusal(member: tarfile.TarInfo) -> str | None:
    """Why a member is not read; None for one that may be."""
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "its name leads out of the shard's folder"
    if member.issparse():
        return "a sparse file"
    if not member.isreg() and not member.isdir():
        return "a link or a device"
    if member.size > _MAX_IMAGE and is_image(member.name):
        return f"larger than {_MAX_IMAGE >> 20} MiB"
    return None


def is_image(name: str) -> bool:
    """Whether the suffix of a name is that of an image."""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def _unread(stream: _Stream, plain: bool) -> list[str]:
    """Problems of a shard that was read to the end that tarfile sees: it takes a damaged header for the end.

    Args:
        stream: after the last member.
        plain: whether the file is not compressed.
    """
    if stream.header.strip(b"\0") or any(block.strip(b"\0") for block in iter(lambda: stream.data(2**20), b"")):
        return ["a damaged header"]
    return ["the end is missing"] if plain and len(stream.header) < _BLOCK else []
