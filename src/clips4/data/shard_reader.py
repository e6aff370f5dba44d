"""Files of WebDataset shards: tar files of images, found by name and read as streams.

A sample is a run of members with one key, such as ``000123.jpg`` and ``000123.json``; its image is the member with an
image suffix.
"""

import os
import re
import tarfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from clips4.data.image_folder import SkippedImage
from clips4.errors import UserError

# in order of preference: a sample with a .jpg and a .png is usually a photograph and its mask
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp")

_URL = re.compile(r"pipe:|[A-Za-z][A-Za-z0-9+.-]+:/")  # not a Windows drive, which is one letter
_META = re.compile(r"__[^/]*__($|/)")  # members that webdataset ignores
_BLOCK = 512  # bytes; tar files consist of such blocks, and at least the last is all zeros

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
            names = [text] if Path(text).is_file() else list(braceexpand(text))
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


def read_shard(shard: str, on_skip: OnSkip | None = None) -> Iterator[Sample]:
    """Images of a shard in their order; ``on_skip`` is called for what is damaged or has no image."""
    problems: list[str] = []

    def stop(error: Exception) -> bool:
        # webdataset appends the stream to the message
        problems.append(str(error.args[0]).split(" @ ")[0] if error.args else type(error).__name__)
        return False

    try:
        with Path(shard).open("rb") as file:
            source = {"url": shard, "stream": file}
            members = import_webdataset().tariterators.tar_file_expander([source], handler=stop)
            yield from _images(members, shard, on_skip)
            problems += [] if problems else _unread(file)
    except OSError as error:
        problems.append(error.strerror or str(error))
    if problems and on_skip:
        problem = " ".join(problems[0].split())
        reason = f"{shard}: damaged shard ({problem}); its readable part is used; create it again"
        on_skip(SkippedImage(Path(shard), reason))


def _unread(file: BinaryIO) -> list[str]:
    """Problems of a shard that was read to the end that tarfile sees: it takes a damaged header for the end."""
    if any(block.strip(b"\0") for block in iter(lambda: file.read(2**20), b"")):
        return ["a damaged header"]
    if _is_plain(file):
        file.seek(-_BLOCK, os.SEEK_END)
        if file.read().strip(b"\0"):
            return ["the end is missing"]
    return []


def _is_plain(file: BinaryIO) -> bool:
    """Whether a file is an uncompressed tar."""
    file.seek(0)
    return file.read(_BLOCK)[257:262] == b"ustar"


def _images(members: Iterable[dict[str, Any]], shard: str, on_skip: OnSkip | None) -> Iterator[Sample]:
    """Group a shard's members into samples, and yield the image of each."""

    def report(error: Exception) -> bool:
        if on_skip:
            on_skip(SkippedImage(Path(shard), f"{shard}: {error.args[0]}; the second is skipped"))
        return True

    for sample in import_webdataset().tariterators.group_by_keys(members, lcase=False, handler=report):
        key = sample["__key__"]
        suffixes = {suffix.lower(): suffix for suffix in sample if not suffix.startswith("__")}
        image = next((suffixes[suffix] for suffix in IMAGE_SUFFIXES if suffix in suffixes), None)
        name = f"{shard}/{key}"
        if image is not None:
            yield Sample(f"{name}.{image}", sample[image])
        elif on_skip:
            others = ", ".join(f".{suffix}" for suffix in sorted(suffixes)) or "nothing"
            known = ", ".join(f".{suffix}" for suffix in IMAGE_SUFFIXES)
            reason = f"{name}: no image in this sample, only {others}; an image ends in {known}"
            on_skip(SkippedImage(Path(name), reason))


def count_images(shard: str) -> int:
    """Number of images that ``read_shard`` yields; of an uncompressed shard only the headers are read."""
    try:
        with Path(shard).open("rb") as file:
            if _is_plain(file):
                file.seek(0)
                return sum(1 for _ in _images(_headers(file, shard), shard, None))
    except OSError:
        return 0
    return sum(1 for _ in read_shard(shard))


def _headers(file: BinaryIO, shard: str) -> Iterator[dict[str, Any]]:
    """Members as webdataset gives them, without their data."""
    size = os.fstat(file.fileno()).st_size
    with suppress(tarfile.TarError), tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if member.offset_data + member.size > size:
                break  # truncated
            if member.isreg() and not _META.match(member.name):
                yield {"fname": member.name, "data": b"", "__url__": shard}
    yield {}  # marks the end for webdataset
