"""Sets of WebDataset shards, read by several readers at once.

Readers (ranks times loader processes) share a set by whole shards if there are enough of them, else they interleave:
each reads every n-th sample. What a reader gets depends only on the set, the seed, its number and the number of
readers, so that a run can resume from any sample. Memory holds one sample, and in ``read_forever`` a shuffle buffer.
"""

import random
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import chain, count, islice, repeat
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from clips4.data.image_folder import SkippedImage
from clips4.data.rng import ORDER, seeded
from clips4.data.shards.files import import_webdataset
from clips4.data.shards.members import OnSkip
from clips4.data.shards.samples import Sample, count_images, read_shard, warn_skipped
from clips4.errors import UserError

T = TypeVar("T")


def _check_reader(shards: Sequence[str], reader: int, readers: int) -> None:
    if not shards:
        raise UserError("no shards; give files that end in .tar")
    if not 0 <= reader < readers:
        raise ValueError(f"reader {reader} of {readers}: readers are numbered from 0")


def _interleaved(shards: Sequence[str], readers: int) -> bool:
    """Whether each reader takes every n-th sample of all shards, because there are fewer shards than readers."""
    return len(shards) < readers


def _require_images(shards: Sequence[str]) -> None:
    """Raise UserError if the whole set has no image; a reader that got none may just have no share."""
    skipped: list[SkippedImage] = []
    for shard in shards:
        if next(read_shard(shard, skipped.append), None) is not None:
            return
    first = f"; the first problem: {skipped[0].reason}" if skipped else ""
    raise UserError(f"none of {len(shards)} shards, {shards[0]} the first, holds an image{first}")


def read_once(shards: Sequence[str], reader: int, readers: int, on_skip: OnSkip = warn_skipped) -> Iterator[Sample]:
    """This reader's share of the images, in the order of the shards; all readers together read each image once.

    Args:
        shards: paths, as ``expand_shards`` returns them.
        reader: this reader's number, 0 .. readers - 1.
        readers: number of readers.
        on_skip: called for each damaged shard and each sample without an image, by one of the readers.

    Raises:
        UserError: the whole set has no image.
    """
    _check_reader(shards, reader, readers)
    if _interleaved(shards, readers):
        report = on_skip if reader == 0 else None
        everything = chain.from_iterable(read_shard(shard, report) for shard in shards)
        samples: Iterator[Sample] = islice(everything, reader, None, readers)
    else:
        samples = chain.from_iterable(read_shard(shard, on_skip) for shard in shards[reader::readers])
    nothing = True
    for sample in samples:
        nothing = False
        yield sample
    if nothing:
        _require_images(shards)


def read_forever(
    shards: Sequence[str],
    seed: int,
    reader: int,
    readers: int,
    skip: int = 0,
    shuffle: int = 1000,
    on_skip: OnSkip = warn_skipped,
) -> Iterator[Sample]:
    """An endless stream of images: in every epoch all readers together read each image once, in another order.

    The shards of an epoch are shuffled and distributed among the readers; each reader shuffles its samples in a buffer.

    Args:
        shards: paths, as ``expand_shards`` returns them.
        seed: of the order.
        reader: this reader's number, 0 .. readers - 1.
        readers: number of readers.
        skip: number of this reader's samples to skip, for resuming. Skipped epochs only cost reading the shards'
            headers; of the epoch in which skipping ends, only the shards are read that the buffer was filled from.
        shuffle: size of the buffer, in undecoded samples; 0 keeps the shards' own order.
        on_skip: called for each damaged shard and each sample without an image, by each reader that reads it, once.

    Raises:
        UserError: the whole set has no image, or a shard changes during the run.
    """
    _check_reader(shards, reader, readers)
    interleaved, reported, count_once = _interleaved(shards, readers), set[str](), cache(count_images)
    own = slice(reader, None, readers) if interleaved else slice(0, None, 1)

    def read(shard: str) -> Iterator[Sample]:
        report = None if shard in reported or (interleaved and reader) else on_skip
        reported.add(shard)
        return read_shard(shard, report)

    for epoch in count():
        mine, buffer_seed = _assign_shards(shards, seed, reader, readers, epoch)
        mix = partial(_shuffled, seed=buffer_seed, size=shuffle)
        parts: Iterator[Iterator[Sample | None]] = map(read, mine)
        if skip:
            sizes = [count_once(shard) for shard in mine]
            length = len(range(sum(sizes))[own])
            if 0 < length <= skip:
                skip -= length
                continue
            kept = _kept_samples(sizes, own, islice(mix(iter(range(length))), skip))
            parts = map(_read_kept, map(read, mine), kept, mine)
        samples = mix(islice(chain.from_iterable(parts), own.start, None, own.step))
        nothing = True
        for sample in islice(samples, skip, None):
            nothing = False
            if sample is not None:  # always: the samples that were not kept are the skipped ones
                yield sample
        if nothing:
            _require_images(shards)
            if interleaved:
                raise UserError(f"the {len(shards)} shards have fewer images than there are readers, {readers}")
        else:
            skip = 0


def _assign_shards(shards: Sequence[str], seed: int, reader: int, readers: int, epoch: int) -> tuple[list[str], int]:
    """The shards that a reader reads in an epoch, in order, and the seed of its buffer."""
    draw = seeded(seed, ORDER, epoch)
    order = [shards[index] for index in torch.randperm(len(shards), generator=draw).tolist()]
    buffer_seed = int(torch.randint(2**62, (readers,), generator=draw)[reader])
    return (order if _interleaved(shards, readers) else order[reader::readers]), buffer_seed


def _shuffled(items: Iterator[T], seed: int, size: int) -> Iterator[T]:
    """The items in the order in which webdataset's shuffle buffer yields them."""
    return import_webdataset().shuffle(size, rng=random.Random(seed))(items)


def _kept_samples(sizes: Sequence[int], own: slice, skipped: Iterator[int]) -> list[NDArray[np.bool_]]:
    """For each shard, which of its samples are this reader's own and not skipped.

    Args:
        sizes: number of samples of each shard.
        own: the reader's samples among all of them.
        skipped: positions among the reader's own samples.
    """
    kept = np.zeros(sum(sizes), bool)
    kept[own] = True
    kept[np.arange(len(kept))[own][list(skipped)]] = False
    return np.split(kept, np.cumsum(sizes)[:-1])


def _read_kept(samples: Iterator[Sample], kept: NDArray[np.bool_], shard: str) -> Iterator[Sample | None]:
    """The kept samples of a shard at their positions, None for the others; a shard with none is not opened."""
    if not kept.any():
        yield from repeat(None, len(kept))
        return
    found = -1
    for found, sample in enumerate(samples):
        if found < len(kept):
            yield sample if kept[found] else None
    if found + 1 != len(kept):
        raise UserError(f"{shard}: has {found + 1} images, and had {len(kept)} before; do not replace shards in a run")
