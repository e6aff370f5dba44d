"""Sources of training images: files, which can be read in any order, or tar shards, which are streams."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from clips4.data.image_folder import SkippedImage, find_images, fit_training_image, load_training_image, reason_to_skip
from clips4.data.shards.files import expand_shards, is_shard
from clips4.data.shards.remote import address_of, shard_size
from clips4.data.shards.samples import Sample, count_images
from clips4.data.shards.stream import read_once
from clips4.data.shards.tables import find_tables, is_table
from clips4.errors import UserError
from clips4.utils.cache import content_key, settings_key
from clips4.utils.image_file import image_size
from clips4.utils.images import RGB, decode_rgb, range_settings

_SIZED = 256  # images whose sizes are read


class SourceImage(NamedTuple):
    """An image of a source, or why it cannot be used.

    Attributes:
        number: identifies the image in the source, on whatever rank it is read.
        path: of the file, or of the shard and its member.
        image: (H, W, 3) uint8, or the reason.
    """

    number: int
    path: Path
    image: RGB | str


class Source(Protocol):
    """Images to train on.

    Attributes:
        digest: a hash of the names and sizes of all files.
    """

    digest: str

    def iterate(self, long_side: int, rank: int, world: int) -> Iterator[SourceImage]:
        """This rank's share of the images; all ranks together read each image once."""

    def count(self, rank: int, world: int) -> int:
        """Number of images that ``iterate`` yields, 0 if unknown."""

    def sizes(self) -> tuple[int, list[tuple[int, int]]]:
        """The approximate number of images, and (width, height) of some of them."""

    def sample(self, limit: int, long_side: int) -> Iterator[tuple[Path, RGB]]:
        """At most ``limit`` readable images with their names; the same at every call."""


class ImageFiles:
    """Image files, in the order given."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)
        # a broken link has no size; ``iterate`` reports it as unreadable
        self.digest = _digest((path.name, path.stat().st_size if path.exists() else None) for path in self.paths)

    def iterate(self, long_side: int, rank: int, world: int) -> Iterator[SourceImage]:
        for number in range(rank, len(self.paths), world):
            path = self.paths[number]
            try:
                yield SourceImage(number, path, load_training_image(path, long_side))
            except Exception as error:
                yield SourceImage(number, path, reason_to_skip(error))

    def count(self, rank: int, world: int) -> int:
        return len(range(rank, len(self.paths), world))

    def sizes(self) -> tuple[int, list[tuple[int, int]]]:
        found = [size for path in evenly_spaced(self.paths, _SIZED) if (size := _size(path))]
        return len(self.paths), found

    def sample(self, limit: int, long_side: int) -> Iterator[tuple[Path, RGB]]:
        for path in evenly_spaced(self.paths, limit):
            try:
                yield path, load_training_image(path, long_side)
            except UserError:  # reported by ``iterate``
                continue


class ImageShards:
    """Tar shards and tables, local or remote."""

    def __init__(self, shards: Sequence[str | Path]):
        self.shards = list(map(address_of, shards))
        self.digest = _digest((Path(shard).name, shard_size(shard)) for shard in self.shards)

    def iterate(self, long_side: int, rank: int, world: int) -> Iterator[SourceImage]:
        skipped_samples: list[SkippedImage] = []
        for sample in read_once(self.shards, rank, world, skipped_samples.append):
            path = Path(sample.name)
            number = int(content_key(os.fsencode(sample.name))[:7], 16)  # the same on every rank
            try:
                yield SourceImage(number, path, decode_sample(sample, long_side))
            except UserError as error:
                yield SourceImage(number, path, str(error))
        for skipped in skipped_samples:
            yield SourceImage(int(content_key(os.fsencode(str(skipped)))[:7], 16), skipped.path, skipped.reason)

    def count(self, rank: int, world: int) -> int:
        return 0

    def sizes(self) -> tuple[int, list[tuple[int, int]]]:
        first = list(islice(read_once(self.shards, 0, 1, lambda _: None), _SIZED))
        # a tar file is made of blocks of 512 bytes, one for each header
        mean = sum(512 * (1 + -(-len(sample.data) // 512)) for sample in first) / len(first)
        whole = sum(shard_size(shard) or 0 for shard in self.shards if not is_table(shard))
        rows = sum(count_images(shard) for shard in self.shards if is_table(shard))
        return rows + round(whole / mean), [size for sample in first if (size := _size(sample.data))]

    def sample(self, limit: int, long_side: int) -> Iterator[tuple[Path, RGB]]:
        for sample in islice(read_once(self.shards, 0, 1, lambda _: None), limit):
            try:
                yield Path(sample.name), decode_sample(sample, long_side)
            except UserError:
                continue


def decode_sample(sample: Sample, long_side: int) -> RGB:
    """Decode a sample for training, as ``load_training_image`` does a file.

    Raises:
        UserError: the image cannot be read, or is too small.
    """
    return fit_training_image(decode_rgb(sample.data, sample.name), long_side, sample.name)


def find_training_images(inputs: Sequence[str | Path]) -> list[Path]:
    """The images in files, folders and lists, or the shards and the tables in folders, to train on.

    Raises:
        UserError: nothing was found, or shards and images are mixed.
    """
    inputs = [each for path in map(Path, inputs) for each in find_tables(path) or [path]]
    shards = [is_shard(path) for path in inputs]
    if not any(shards):
        return find_images(inputs)
    if not all(shards):
        raise UserError(f"{inputs[shards.index(False)]}: give either tar shards or images, not both")
    return [Path(shard) for shard in expand_shards(inputs)]


def open_source(paths: Sequence[Path]) -> Source:
    """The source of the paths that ``find_training_images`` returns.

    Raises:
        UserError: the list is empty.
    """
    if not paths:
        raise UserError("no images to train on; give files, folders or shards")
    return ImageShards(paths) if is_shard(paths[0]) else ImageFiles(paths)


def evenly_spaced(paths: Sequence[Path], count: int) -> list[Path]:
    """At most ``count`` of the paths, evenly spaced."""
    return list(paths[:: max(1, -(-len(paths) // count))])


def _size(source: Path | bytes) -> tuple[int, int] | None:
    """(width, height) from the header; None if it is not an image."""
    try:
        return image_size(source, "")
    except UserError:  # reported by ``iterate``
        return None


def _digest(sizes: Iterable[tuple[str, int | None]]) -> str:
    # the key keeps the name that runs have
    return settings_key({"pictures": list(sizes), **range_settings()})
