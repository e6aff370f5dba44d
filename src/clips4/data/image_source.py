"""Where training pictures come from: files, read in any order, or tar shards, which stream."""

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from clips4.data.image_folder import Skipped, fit_training_image, load_training_image
from clips4.data.shard_stream import Sample, expand_shards, is_shard, read_once
from clips4.errors import UserError
from clips4.utils.cache import content_key, settings_key
from clips4.utils.images import RGB, decode_rgb, find_images

_SIZED = 256  # pictures whose size is looked at


class Seen(NamedTuple):
    """A picture met on the way through a source.

    Attributes:
        number: its own in the source, whoever reads it.
        image: (H, W, 3) uint8, or why there is none.
    """

    number: int
    path: Path
    image: RGB | str


class Source(Protocol):
    """Pictures to train on.

    Attributes:
        digest: tells one set of pictures from another, by names and sizes.
    """

    digest: str

    def once(self, long_side: int, rank: int, world: int) -> Iterator[Seen]:
        """This rank's share of the pictures, each once over the ranks."""

    def count(self, rank: int, world: int) -> int:
        """How many ``once`` will give, 0 where nobody knows."""

    def sizes(self) -> tuple[int, list[tuple[int, int]]]:
        """How many pictures there are, about, and (width, height) of some of them."""

    def sample(self, limit: int, long_side: int) -> Iterator[tuple[Path, RGB]]:
        """At most ``limit`` readable pictures with their names, the same whenever it is asked."""


class ImageFiles:
    """Picture files, in the order given."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)
        self.digest = _digest(self.paths)

    def once(self, long_side: int, rank: int, world: int) -> Iterator[Seen]:
        for number in range(rank, len(self.paths), world):
            path = self.paths[number]
            try:
                yield Seen(number, path, load_training_image(path, long_side))
            except UserError as error:
                yield Seen(number, path, str(error))

    def count(self, rank: int, world: int) -> int:
        return len(range(rank, len(self.paths), world))

    def sizes(self) -> tuple[int, list[tuple[int, int]]]:
        found = [size for path in spread(self.paths, _SIZED) if (size := _size(path))]
        return len(self.paths), found

    def sample(self, limit: int, long_side: int) -> Iterator[tuple[Path, RGB]]:
        for path in spread(self.paths, limit):
            try:
                yield path, load_training_image(path, long_side)
            except UserError:  # told when the pictures are read
                continue


class ImageShards:
    """WebDataset tar shards."""

    def __init__(self, shards: Sequence[str]):
        self.shards = list(shards)
        self.digest = _digest(map(Path, self.shards))

    def once(self, long_side: int, rank: int, world: int) -> Iterator[Seen]:
        left_out: list[Skipped] = []
        for sample in read_once(self.shards, rank, world, left_out.append):
            path = Path(sample.name)
            number = int(content_key(sample.name.encode())[:7], 16)  # the same on whatever rank it is read
            try:
                yield Seen(number, path, decode_sample(sample, long_side))
            except UserError as error:
                yield Seen(number, path, str(error))
        for skipped in left_out:
            yield Seen(int(content_key(str(skipped).encode())[:7], 16), skipped.path, skipped.reason)

    def count(self, rank: int, world: int) -> int:
        return 0

    def sizes(self) -> tuple[int, list[tuple[int, int]]]:
        first = list(islice(read_once(self.shards, 0, 1, lambda _: None), _SIZED))
        # a tar file is made of blocks of 512 bytes, one for each header
        mean = sum(512 * (1 + -(-len(sample.data) // 512)) for sample in first) / len(first)
        whole = sum(Path(shard).stat().st_size for shard in self.shards)
        return round(whole / mean), [size for sample in first if (size := _size(io.BytesIO(sample.data)))]

    def sample(self, limit: int, long_side: int) -> Iterator[tuple[Path, RGB]]:
        for sample in islice(read_once(self.shards, 0, 1, lambda _: None), limit):
            try:
                yield Path(sample.name), decode_sample(sample, long_side)
            except UserError:
                continue


def decode_sample(sample: Sample, long_side: int) -> RGB:
    """The picture of a sample, as ``load_training_image`` gives one of a file.

    Raises:
        UserError: it cannot be read, or is too small.
    """
    return fit_training_image(decode_rgb(sample.data, sample.name), long_side, sample.name)


def find_training_images(inputs: Sequence[str | Path]) -> list[Path]:
    """What is trained on: pictures among files, folders and lists, or shards.

    Raises:
        UserError: nothing there, or shards and pictures together.
    """
    shards = [is_shard(each) for each in inputs]
    if not any(shards):
        return find_images(inputs)
    if not all(shards):
        raise UserError(f"{inputs[shards.index(False)]}: give either tar shards or pictures, not both")
    return [Path(shard) for shard in expand_shards(inputs)]


def open_source(paths: Sequence[Path]) -> Source:
    """The source of the paths that ``find_training_images`` found.

    Raises:
        UserError: there are none.
    """
    if not paths:
        raise UserError("no picture was given to train on")
    return ImageShards(list(map(str, paths))) if is_shard(paths[0]) else ImageFiles(paths)


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """At most ``count`` of the paths, evenly spaced."""
    return list(paths[:: max(1, -(-len(paths) // count))])


def _size(file: Path | io.BytesIO) -> tuple[int, int] | None:
    """(width, height) by the header alone; None where it is no picture."""
    try:
        with Image.open(file) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _digest(paths: Iterable[Path]) -> str:
    # a link to nothing is no size; it is told as unreadable where pictures are read
    sizes = [(path.name, path.stat().st_size if path.exists() else None) for path in paths]
    return settings_key({"pictures": sizes})
