"""Files of WebDataset shards: tar files of images, found by name and read as streams.

A sample is a run of members with one key, such as ``000123.jpg`` and ``000123.json``; its image is the member with an
image suffix. A key ends at the first dot (``000123.seg.png`` belongs to ``000123``), unless a number follows and the
member is an image: ``frame_0.5.jpg`` and ``cat.2.jpg`` are images of their own.

Members are read into memory one at a time and never written anywhere; links, devices, sparse files, and
names that lead out of a folder are skipped.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from clips4.data.image_folder import SkippedImage
from clips4.errors import UserError

# in order of preference: a sample with a .jpg and a .png is usually a photograph and its mask
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp")

_URL = re.compile(r"pipe:|[A-Za-z][A-Za-z0-9+.-]+:/")  # not a Windows drive, which is one letter
_META = re.compile(r"__[^/]*__($|/)")  # members that webdataset ignores
_BLOCK = 512  # bytes; tar files consist of such blocks, and at least the last is all zeros
_RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(\.\.-?\d+)?\}")
_MAX_NAMES = 2**20  # of one pattern with braces
_MAX_HEADER, _MAX_IMAGE = 2**16, 2**28  # bytes of a member's header, of an image
FREE, MAX_RATIO = 2**28, 100  # bytes that any shard may unpack to; beyond, times the bytes of its file
_DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# what tarfile and the decompressors raise for damaged or hostile files
_DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, ArithmeticError, LookupError)

_DOTS = "; the name of a sample ends at its first dot, so replace other dots that are not followed by a number"

OnSkip = Callable[[SkippedImage], None]


class Sample(NamedTuple):
    """One undecoded image of a shard.

    Attributes:
        name: shard and member, e.g. ``shards/0003.tar/000123.jpg``.
        data: the bytes of the image's file.
    """

    name: str
    data: bytes


def warn_skipped(skipped: SkippedImage) -> None:
    """Warn of what was skipped; the default of ``on_skip``."""
    warnings.warn(skipped.reason, stacklevel=2)


def is_shard(text: str | Path) -> bool:
    """Whether this names shards: ``*.tar``, with or without braces.

    URLs and ``pipe:`` commands count, so that ``expand_shards`` can explain why they are not read.
    """
    return str(text).lower().endswith(".tar") or str(text).startswith("pipe:")


def import_webdataset() -> Any:
    """The package ``webdataset``, an extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        import webdataset
    except ImportError:
        raise UserError("tar shards need the package webdataset: pip install 'clips4[shards]'")
    return webdataset


def expand_shards(specs: str | Path | Iterable[str | Path]) -> list[str]:
    """The sorted, distinct files of ``*.tar`` names, with braces expanded (``shards/{000..031}.tar``).

    Raises:
        UserError: a file is missing, a name is a URL, braces do not close, or webdataset is not installed.
    """
    import_webdataset()
    from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

    shards: set[str] = set()
    for spec in [specs] if isinstance(specs, (str, Path)) else specs:
        text = str(spec)
        if _URL.match(text):
            raise UserError(f"{text}: shards are read from files only; copy or mount them and give their paths")
        try:
            names = [text] if Path(text).is_file() else _expand_braces(text, braceexpand)
        except UnbalancedBracesError:
            raise UserError(f"{text}: the braces do not close; write e.g. shards/{{000..031}}.tar")
        paths = [Path(name).expanduser() for name in names]
        for path in paths:
            if not path.is_file():
                missing = f"{path}: no such shard" if not path.exists() else f"{path}: not a file"
                raise UserError(missing + (f", one of {len(paths)} of {text}" if len(paths) > 1 else ""))
        shards.update(map(str, paths))
    if not shards:
        raise UserError("no shards; give files that end in .tar")
    return sorted(shards)


def _expand_braces(text: str, expand: Callable[[str], Iterator[str]]) -> list[str]:
    """The names of a pattern.

    Raises:
        UserError: too many of them.
    """
    sizes = [abs(int(found[2]) - int(found[1])) + 1 for found in _RANGE.finditer(text)]
    names = list(islice(expand(text), _MAX_NAMES + 1)) if prod(sizes) <= _MAX_NAMES else []
    if not 0 < len(names) <= _MAX_NAMES:
        raise UserError(f"{text}: more than {_MAX_NAMES} names; give the shards that there are")
    return names


def read_shard(shard: str, on_skip: OnSkip | None = None) -> Iterator[Sample]:
    """Images of a shard in their order; ``on_skip`` is called for what is damaged or has no image."""
    problems: list[str] = []
    yield from _images(_members(shard, problems, on_skip), shard, on_skip)
    if problems and on_skip:
        problem = " ".join(problems[0].split())
        reason = f"{shard}: damaged shard ({problem}); its readable part is used; create it again"
        on_skip(SkippedImage(Path(shard), reason))


def count_images(shard: str) -> int:
    """Number of images that ``read_shard`` yields; of an uncompressed shard only the headers are read."""
    return sum(1 for _ in _images(_members(shard, [], None, with_data=False), shard, None))


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


def _members(
    shard: str, problems: list[str], on_skip: OnSkip | None, with_data: bool = True
) -> Iterator[dict[str, Any]]:
    """Members as webdataset gives them, images with their data; problems of the whole shard are appended."""
    try:
        with Path(shard).open("rb") as raw:
            if not Path(shard).is_file():
                raise OSError("not a regular file")
            start = raw.read(_BLOCK)
            raw.seek(0)
            unpack = next((each for magic, each in _DECOMPRESSORS.items() if start.startswith(magic)), None)
            size = Path(shard).stat().st_size
            with cast(BinaryIO, unpack(raw)) if unpack else raw as file:
                most = f"unpacks to more than {MAX_RATIO} times its size"
                limit, why = (max(FREE, MAX_RATIO * size), most) if unpack else (size, "unexpected end of data")
                stream = _Stream(file, limit, why)
                yield from _read_members(stream, shard, on_skip, with_data)
                problems += _unread(stream, size if unpack is None else None)
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
                if on_skip and _is_image(member.name):
                    name = f"{shard}/{member.name}"
                    on_skip(SkippedImage(Path(name), f"{name}: {reason}; it is skipped"))
                continue
            if not member.isreg() or _META.match(member.name):
                continue
            data = b""
            if with_data and _is_image(member.name):
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
    if member.size > _MAX_IMAGE and _is_image(member.name):
        return f"larger than {_MAX_IMAGE >> 20} MiB"
    return None


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def _unread(stream: _Stream, size: int | None) -> list[str]:
    """Problems of a shard that was read to the end that tarfile sees: it takes a damaged header for the end.

    Args:
        stream: after the last member.
        size: of the file, if it is an uncompressed tar.
    """
    if stream.header.strip(b"\0") or any(block.strip(b"\0") for block in iter(lambda: stream.data(2**20), b"")):
        return ["a damaged header"]
    if size is not None:
        stream.seek(max(0, size - _BLOCK))
        if stream.data(_BLOCK).strip(b"\0"):
            return ["the end is missing"]
    return []


def _images(members: Iterable[dict[str, Any]], shard: str, on_skip: OnSkip | None) -> Iterator[Sample]:
    """Group a shard's members into samples, and yield the image of each."""

    def report(error: Exception) -> bool:
        if on_skip:
            on_skip(SkippedImage(Path(shard), f"{shard}: {error.args[0]}; the second is skipped"))
        return True

    left: list[str] = []  # images with more dots in samples that have another image
    group = import_webdataset().tariterators.group_by_keys
    for sample in group(members, keys=_split_name, lcase=False, handler=report):
        key = sample["__key__"]
        suffixes = {suffix.lower(): suffix for suffix in sample if not suffix.startswith("__")}
        image = next((suffixes[suffix] for suffix in IMAGE_SUFFIXES if suffix in suffixes), None)
        name = f"{shard}/{key}"
        if image is not None:
            left += [f"{key}.{suffix}" for suffix in suffixes.values() if suffix.lower().endswith(f".{image.lower()}")]
            yield Sample(f"{name}.{image}", sample[image])
        elif on_skip and not all(suffix[:1].isdigit() for suffix in suffixes):  # those lie beside numbered images
            others = ", ".join(f".{suffix}" for suffix in sorted(suffixes)) or "nothing"
            known = ", ".join(f".{suffix}" for suffix in IMAGE_SUFFIXES)
            reason = f"{name}: no image in this sample, only {others}; an image ends in {known}{_DOTS}"
            on_skip(SkippedImage(Path(name), reason))
    if left and on_skip:
        on_skip(SkippedImage(Path(shard), f"{shard}: {len(left)} images such as {left[0]} are not used{_DOTS}"))


def _split_name(member: str) -> tuple[str | None, str | None]:
    """Key and suffix of a member's name, without the dot between them; None for a name without a suffix."""
    key, suffix = import_webdataset().tariterators.base_plus_ext(member)
    stem, dot, last = (suffix or "").rpartition(".")
    numbered = dot and stem[:1].isdigit() and last.lower() in IMAGE_SUFFIXES
    return (f"{key}.{stem}", last) if numbered else (key, suffix)
