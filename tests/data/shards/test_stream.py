import random
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest

from clips4.data.image_folder import SkippedImage
from clips4.data.shards import stream as shards_module
from clips4.data.shards.members import OnSkip
from clips4.data.shards.samples import Sample, count_images, read_shard
from clips4.data.shards.stream import read_forever, read_once
from clips4.errors import UserError
from tests.data.shards.helpers import everything, no_skips, write_shards, write_tar


def forever(
    paths: Sequence[str], seed: int = 0, lane: int = 0, lanes: int = 1, skip: int = 0, shuffle: int = 4
) -> Iterator[Sample]:
    return read_forever(paths, seed, lane, lanes, skip, shuffle, no_skips)


@pytest.mark.parametrize("lanes", [1, 2, 5])
@pytest.mark.parametrize("skip", [0, 3])
def test_set_without_an_image_is_an_error_not_an_endless_loop(tmp_path: Path, lanes: int, skip: int) -> None:
    paths = [write_tar(tmp_path / "a.tar", [("1.json", b"{}")]), write_tar(tmp_path / "b.tar", [])]
    for lane in range(lanes):
        with pytest.raises(UserError, match=r"none of 2 shards, .* holds an image; .*a\.tar/1: no image"):
            list(read_once(paths, lane, lanes, lambda _: None))
        with pytest.raises(UserError, match="none of 2 shards"):
            next(read_forever(paths, 0, lane, lanes, skip, on_skip=lambda _: None))


def test_fewer_images_than_readers_is_an_error_for_those_that_get_none(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, [2])
    assert len(list(islice(forever(paths, lane=1, lanes=3), 5))) == 5
    assert list(read_once(paths, 2, 3, no_skips)) == []
    for skip in (0, 1):
        with pytest.raises(UserError, match="fewer images than there are readers, 3"):
            next(forever(paths, lane=2, lanes=3, skip=skip))


@pytest.mark.parametrize("lanes", [1, 2, 3, 5, 6, 9, 30])
def test_readers_share_the_set_without_overlap(paths: list[str], lanes: int) -> None:
    parts = [list(read_once(paths, lane, lanes, no_skips)) for lane in range(lanes)]
    joined = [sample for part in parts for sample in part]
    assert len(joined) == 21
    assert sorted(joined) == sorted(everything(paths))
    if lanes > len(paths):  # by turns: as even as can be
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("lanes", [1, 2, 3, 7])
def test_readers_share_each_epoch_without_overlap(tmp_path: Path, lanes: int) -> None:
    paths = write_shards(tmp_path, [4] * 6)
    size = 24 // lanes if 24 % lanes == 0 else None
    for epoch in range(3):
        joined = []
        for lane in range(lanes):
            mine = size or len(range(lane, 24, lanes))
            joined += list(islice(forever(paths, lane=lane, lanes=lanes), epoch * mine, (epoch + 1) * mine))
        assert sorted(joined) == sorted(everything(paths)), epoch


def test_damage_is_reported_once_over_interleaved_readers(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"1"), ("2.json", b"{}"), ("3.jpg", b"3"), ("4.jpg", b"4")])
    skipped: list[SkippedImage] = []
    for lane in range(3):
        list(read_once([path], lane, 3, skipped.append))
    assert len(skipped) == 1


@pytest.mark.parametrize("lane", [-1, 2, 5])
def test_readers_are_numbered_from_zero(paths: list[str], lane: int) -> None:
    for read in (read_once(paths, lane, 2), read_forever(paths, 0, lane, 2)):
        with pytest.raises(ValueError, match=f"reader {lane} of 2"):
            next(read)


def take(samples: Iterator[Sample], count: int) -> list[str]:
    return [sample.name for sample in islice(samples, count)]


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_same_seed_gives_the_same_order_and_another_another(paths: list[str], lanes: int) -> None:
    order = take(forever(paths, seed=3, lanes=lanes), 40)
    random.seed(99)
    assert take(forever(paths, seed=3, lanes=lanes), 40) == order
    assert take(forever(paths, seed=4, lanes=lanes), 40) != order


def test_epochs_and_readers_differ_in_order(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, [40])
    order = take(forever(paths, shuffle=40), 120)
    epochs = [order[:40], order[40:80], order[80:]]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    # two lanes by turns draw from the same shards, but mix differently
    positions = [
        [int(name[-7:-4]) // 2 for name in take(forever(paths, lane=lane, lanes=2, shuffle=40), 20)] for lane in (0, 1)
    ]
    assert sorted(positions[0]) == sorted(positions[1])
    assert positions[0] != positions[1]


def test_full_buffer_mixes_well(tmp_path: Path) -> None:
    """Over seeds, where a sample comes has nothing to do with where it stood."""
    paths = write_shards(tmp_path, [20])
    places = [0.0] * 20
    for seed in range(200):
        for place, name in enumerate(take(forever(paths, seed=seed, shuffle=100), 20)):
            places[int(name[-7:-4])] += place / 200
    assert all(abs(place - 9.5) < 1.8 for place in places)  # 4 standard errors of a uniform mean


def test_without_a_buffer_shards_keep_their_own_order(paths: list[str]) -> None:
    by_shard: dict[str, list[str]] = {}
    for name in take(forever(paths, shuffle=0), 21):
        by_shard.setdefault(name.rsplit("/", 1)[0], []).append(name)
    assert len(by_shard) == 4
    assert all(names == sorted(names) for names in by_shard.values())


@pytest.mark.parametrize(("lane", "lanes"), [(0, 1), (1, 2), (0, 5), (2, 8)])
@pytest.mark.parametrize("shuffle", [0, 1, 4, 1000])
def test_skip_resumes_where_an_uninterrupted_run_would_be(
    paths: list[str], lane: int, lanes: int, shuffle: int
) -> None:
    """For every place in the first epochs, and far ahead."""
    unbroken = take(forever(paths, 5, lane, lanes, shuffle=shuffle), 140)
    for skip in [*range(0, 50, 1 if shuffle == 4 else 7), 100, 126]:
        assert take(forever(paths, 5, lane, lanes, skip, shuffle), 14) == unbroken[skip : skip + 14], skip


def test_skip_holds_on_damaged_sets(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, [5, 6, 7])
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:9000])
    paths.append(write_tar(tmp_path / "x.tar", [("1.jpg", b"1"), ("2.json", b"2"), ("3.jpg", b"3"), ("3.jpg", b"3")]))

    def read(skip: int) -> list[str]:
        return take(read_forever(paths, 1, 0, 1, skip, 4, on_skip=lambda _: None), 20)

    unbroken = take(read_forever(paths, 1, 0, 1, 0, 4, on_skip=lambda _: None), 80)
    for skip in range(0, 60, 3):
        assert read(skip) == unbroken[skip : skip + 20]


def test_skip_reads_only_the_shards_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_shards(tmp_path, [10] * 20)
    unbroken = take(forever(paths), 600)
    used: list[str] = []

    def read(shard: str, on_skip: OnSkip | None) -> Iterator[Sample]:
        used.append(shard)
        yield from read_shard(shard, on_skip)

    monkeypatch.setattr(shards_module, "read_shard", read)
    assert take(forever(paths, skip=400), 1) == unbroken[400:401]
    assert len(used) == 1, "two whole epochs are passed over by their headers"
    used.clear()
    assert take(forever(paths, skip=590), 10) == unbroken[590:]
    assert 1 <= len(used) <= 4, "and of the last, what its buffer of 4 was not filled from"


def test_shard_replaced_while_it_is_skipped_raises(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "count_images", lambda shard: count_images(shard) + 1)
    with pytest.raises(UserError, match=r"has \d+ images, and had \d+ before"):
        list(islice(forever(paths, skip=2), 30))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Four shards of 100 pictures of 50 kB: 20 MB."""
    folder = tmp_path_factory.mktemp("large")
    return [
        write_tar(folder / f"{shard}.tar", [(f"{shard}{index:03d}.jpg", bytes(50_000)) for index in range(100)])
        for shard in range(4)
    ]


@pytest.mark.parametrize(("reader", "bound"), [("once", 1.5e6), ("forever", 2.5e6), ("skip", 2.5e6)])
def test_shard_stream_over_many_images_memory_stays_flat(large: list[str], reader: str, bound: float) -> None:
    """A few pictures in hand, and the buffer's 20 of 50 kB; never a shard's 5 MB."""
    readers = {
        "once": lambda: read_once(large, 0, 1, no_skips),
        "forever": lambda: islice(forever(large, shuffle=20), 1000),
        "skip": lambda: islice(forever(large, skip=650, shuffle=20), 350),
    }
    list(islice(readers[reader](), 1))  # imports
    tracemalloc.start()
    seen = sum(1 for _ in readers[reader]())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen >= 350
    assert peak < bound
