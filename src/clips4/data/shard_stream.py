"""Sets of WebDataset shards, read by several readers at once.

Readers (*lanes*: ranks times loader processes) share a set by whole shards where there are enough to go round, else by
turns, sample by sample. What a lane reads depends on the set, the seed, its number and the number of lanes alone, so
that a run can go on from any sample. Nothing is held but the sample in hand, and in ``read_forever`` a shuffle buffer.
"""

import random
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import chain, count, islice, repeat
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from clips4.data.image_folder import Skipped
from clips4.data.rng import ORDER, seeded
from clips4.data.shard_reader import (
    OnSkip,
    Sample,
    count_images,
    expand_shards,
    import_webdataset,
    is_shard,
    read_shard,
    warn_of,
)
from clips4.errors import UserError

__all__ = ["OnSkip", "Sample", "expand_shards", "is_shard", "read_forever", "read_once", "warn_of"]

T = TypeVar("T")


def _check_lane(shards: Sequence[str], lane: int, lanes: int) -> None:
    if not shards:
        raise UserError("no shard was given; give files that end in .tar")
    if not 0 <= lane < lanes:
        raise ValueError(f"lane {lane} of {lanes}: lanes are numbered from 0")


def _by_turns(shards: Sequence[str], lanes: int) -> bool:
    """Whether the lanes all read every shard and take turns, for want of shards to go round."""
    return len(shards) < lanes


def _require_images(shards: Sequence[str]) -> None:
    """For a lane that got nothing: is there nothing at all, or nothing for this lane?"""
    skipped: list[Skipped] = []
    for shard in shards:
        if next(read_shard(shard, skipped.append), None) is not None:
            return
    first = f"; the first problem: {skipped[0].reason}" if skipped else ""
    raise UserError(f"none of {len(shards)} shards, {shards[0]} the first, holds a picture{first}")


def read_once(shards: Sequence[str], lane: int, lanes: int, on_skip: OnSkip = warn_of) -> Iterator[Sample]:
    """Each picture of the set exactly once over the lanes, in the order of the shards.

    Args:
        shards: of ``expand_shards``.
        lane: this reader's number, 0 .. lanes - 1.
        lanes: readers of the set; by whole shards if there are as many, else by turns.
        on_skip: told of each damaged shard and each sample without a picture, once over the lanes.

    Raises:
        UserError: no picture in the whole set.
    """
    _check_lane(shards, lane, lanes)
    if _by_turns(shards, lanes):
        tell = on_skip if lane == 0 else None
        everything = chain.from_iterable(read_shard(shard, tell) for shard in shards)
        samples: Iterator[Sample] = islice(everything, lane, None, lanes)
    else:
        samples = chain.from_iterable(read_shard(shard, on_skip) for shard in shards[lane::lanes])
    nothing = True
    for sample in samples:
        nothing = False
        yield sample
    if nothing:
        _require_images(shards)


def read_forever(
    shards: Sequence[str],
    seed: int,
    lane: int,
    lanes: int,
    skip: int = 0,
    shuffle: int = 1000,
    on_skip: OnSkip = warn_of,
) -> Iterator[Sample]:
    """Pictures without end: in every epoch each once over the lanes, in another order.

    The shards of an epoch come in random order and are dealt to the lanes; each lane mixes its samples in a buffer.

    Args:
        shards: of ``expand_shards``.
        seed: of the order.
        lane: this reader's number, 0 .. lanes - 1.
        lanes: readers of the set; by whole shards if there are as many, else by turns.
        skip: samples of this lane to pass over; what follows is what would have followed them. Passing over reads the
            shards' headers, and of the epoch it ends in the few shards that the buffer was filled from.
        shuffle: samples in the buffer, held as undecoded files; 0 leaves the shards' own order.
        on_skip: told of each damaged shard and each sample without a picture, by each lane when it first reads it.

    Raises:
        UserError: no picture in the whole set; or a shard that changes while it is read.
    """
    _check_lane(shards, lane, lanes)
    by_turns, told, count_once = _by_turns(shards, lanes), set[str](), cache(count_images)
    turn = slice(lane, None, lanes) if by_turns else slice(0, None, 1)

    def read(shard: str) -> Iterator[Sample]:
        tell = None if shard in told or (by_turns and lane) else on_skip
        told.add(shard)
        return read_shard(shard, tell)

    for epoch in count():
        mine, mixing_seed = _deal(shards, seed, lane, lanes, epoch)
        mix = partial(_mix, seed=mixing_seed, size=shuffle)
        parts: Iterator[Iterator[Sample | None]] = map(read, mine)
        if skip:
            sizes = [count_once(shard) for shard in mine]
            length = len(range(sum(sizes))[turn])
            if 0 < length <= skip:
                skip -= length
                continue
            wanted = _wanted(sizes, turn, islice(mix(iter(range(length))), skip))
            parts = map(_read_wanted, map(read, mine), wanted, mine)
        samples = mix(islice(chain.from_iterable(parts), turn.start, None, turn.step))
        nothing = True
        for sample in islice(samples, skip, None):
            nothing = False
            if sample is not None:  # never: what is not wanted was skipped
                yield sample
        if nothing:
            _require_images(shards)
            if by_turns:
                raise UserError(f"the {len(shards)} shards hold fewer pictures than there are readers, {lanes}")
        else:
            skip = 0


def _deal(shards: Sequence[str], seed: int, lane: int, lanes: int, epoch: int) -> tuple[list[str], int]:
    """The shards that a lane reads in an epoch, in order, and the seed of its buffer."""
    draw = seeded(seed, ORDER, epoch)
    order = [shards[index] for index in torch.randperm(len(shards), generator=draw).tolist()]
    mixing_seed = int(torch.randint(2**62, (lanes,), generator=draw)[lane])
    return (order if _by_turns(shards, lanes) else order[lane::lanes]), mixing_seed


def _mix(items: Iterator[T], seed: int, size: int) -> Iterator[T]:
    """The items through webdataset's shuffle buffer."""
    return import_webdataset().shuffle(size, rng=random.Random(seed))(items)


def _wanted(sizes: Sequence[int], turn: slice, passed: Iterator[int]) -> list[NDArray[np.bool_]]:
    """For each shard, which of its samples are this lane's and not among those passed over (numbers of the lane)."""
    wanted = np.zeros(sum(sizes), bool)
    wanted[turn] = True
    wanted[np.arange(len(wanted))[turn][list(passed)]] = False
    return np.split(wanted, np.cumsum(sizes)[:-1])


def _read_wanted(samples: Iterator[Sample], wanted: NDArray[np.bool_], shard: str) -> Iterator[Sample | None]:
    """The wanted samples of a shard at their places, None for the others; an unwanted shard is not opened."""
    if not wanted.any():
        yield from repeat(None, len(wanted))
        return
    found = -1
    for found, sample in enumerate(samples):
        if found < len(wanted):
            yield sample if wanted[found] else None
    if found + 1 != len(wanted):
        raise UserError(f"{shard}: has {found + 1} pictures, and had {len(wanted)} a moment ago; was it replaced?")
