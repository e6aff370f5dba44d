"""Samples of a shard in WebDataset's layout: undecoded images, found by name and read as a stream.

A sample is a run of members with one key, such as ``000123.jpg`` and ``000123.json``; its image is the member with an
image suffix. A key ends at the first dot (``000123.seg.png`` belongs to ``000123``), unless a number follows and the
member is an image: ``frame_0.5.jpg`` and ``cat.2.jpg`` are images of their own. Rows of tables are samples, too.
"""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from clips4.data.image_folder import SkippedImage
from clips4.data.shards.files import import_webdataset
from clips4.data.shards.members import IMAGE_SUFFIXES, OnSkip, is_image, read_members
from clips4.data.shards.tables import count_rows, is_table, read_rows
from clips4.utils.text import plural

_DOTS = "; the name of a sample ends at its first dot, so replace other dots that are not followed by a number"


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


def read_shard(shard: str, on_skip: OnSkip | None = None) -> Iterator[Sample]:
    """Images of a shard in their order; ``on_skip`` is called for what is damaged or has no image."""
    if is_table(shard):
        yield from (Sample(f"{shard}/{name}", data) for name, data in read_rows(shard, on_skip))
        return
    problems: list[str] = []
    yield from _images(read_members(shard, problems, on_skip), shard, on_skip)
    if problems and on_skip:
        problem = " ".join(problems[0].split())
        reason = f"{shard}: damaged shard ({problem}); its readable part is used; create it again"
        on_skip(SkippedImage(Path(shard), reason))


def count_images(shard: str) -> int:
    """Number of images that ``read_shard`` yields; only headers are read of an uncompressed tar or a parquet file."""
    if is_table(shard):
        return count_rows(shard)
    return sum(1 for _ in _images(read_members(shard, [], None, with_data=False), shard, None))


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
        on_skip(
            SkippedImage(Path(shard), f"{shard}: not used: {plural(len(left), 'image')}, the first {left[0]}{_DOTS}")
        )


def _split_name(member: str) -> tuple[str | None, str | None]:
    """Key and suffix of a member's name, without the dot between them; None for a name without a suffix."""
    key, suffix = import_webdataset().tariterators.base_plus_ext(member)
    stem, dot, last = (suffix or "").rpartition(".")
    numbered = dot and stem[:1].isdigit() and is_image(last)
    return (f"{key}.{stem}", last) if numbered else (key, suffix)
