import errno
import os
import signal
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from clips4.config import DataConfig
from clips4.data.label_maps import IGNORED
from clips4.data.loader import Batch, Positions, ShardStream, ViewStream, batches, collate, loader_error
from clips4.data.views import Item, ItemMaker, Views, draw_pixels
from clips4.errors import UserError
from clips4.utils.images import RGB
from tests.helpers import generator, unit, write_images

CONFIG = DataConfig(long_side=64, crop=32)


def quarters(image: RGB, source: Path) -> NDArray[np.integer]:
    """Four regions."""
    height, width = image.shape[:2]
    return ((np.arange(height) * 2 // height)[:, None] * 2 + (np.arange(width) * 2 // width)).astype(np.int32)


def colors(image: RGB) -> Tensor:
    """(3, 6, 8) the picture itself, small."""
    small = torch.from_numpy(image[::8, ::8].copy()).permute(2, 0, 1).half()
    return small / small.norm(dim=0).clamp(min=1)


def make_stream(folder: Path, count: int = 5, seed: int = 0, draw: int = 6) -> ViewStream:
    return ViewStream(write_images(folder, count), ItemMaker(quarters, colors, CONFIG, 8, seed, draw))


def same(a: Any, b: Any) -> bool:
    return all(
        torch.equal(x, y) if isinstance(x, Tensor) else same(x, y) if isinstance(x, Views) else x == y
        for x, y in zip(a, b, strict=True)
    )


def steps(first: int, last: int, batch: int, parts: int = 1, rank: int = 0, world: int = 1) -> Positions:
    return Positions(range(first, last), parts, batch, rank, world)


# ---------------------------------------------------------------------------------------------------------- stream


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    stream = make_stream(tmp_path, count=7)
    epochs = [[stream.image(epoch * 7 + index) for index in range(7)] for epoch in range(4)]
    assert all(len(set(epoch)) == 7 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_order_and_views_depend_on_the_seed(tmp_path: Path) -> None:
    orders = [[make_stream(tmp_path, 7, seed).image(p) for p in range(7)] for seed in (0, 1)]
    assert orders[0] != orders[1]
    streams = [make_stream(tmp_path, 1, seed) for seed in (0, 1)]
    assert not torch.equal(streams[0][0].views.images, streams[1][0].views.images)


def test_position_gives_the_same_views_at_every_call(tmp_path: Path) -> None:
    first, second = make_stream(tmp_path), make_stream(tmp_path)
    torch.manual_seed(1)
    views = [first[position] for position in (0, 3, 8)]
    torch.manual_seed(2)
    assert all(same(views[index], second[position]) for index, position in ((2, 8), (0, 0), (1, 3)))


def test_image_is_seen_otherwise_in_the_next_epoch(tmp_path: Path) -> None:
    stream = make_stream(tmp_path, count=1)
    assert stream.image(0) == stream.image(1)
    assert not same(stream[0], stream[1])


def test_views_belong_to_the_image_of_the_position(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 2)
    seen: list[RGB] = []

    def remember(image: RGB, source: Path) -> NDArray[np.integer]:
        assert source == stream.image(0)
        seen.append(image)
        return quarters(image, source)

    stream = ViewStream(paths, ItemMaker(remember, colors, CONFIG, 8, 0))
    views, _, name = stream[0]
    assert name == str(stream.image(0))
    from clips4.utils.images import load_rgb

    assert np.array_equal(seen[0], load_rgb(stream.image(0)))
    assert views.images.shape == (2, 3, 32, 32)
    assert views.regions.shape == (2, 4, 4)
    assert isinstance(views, Views)
    assert views.pixel_map.shape == (2, 3, 4, 4)


# --------------------------------------------------------------------------------------------------------- collate


def make_item(regions: list[list[int]], seed: int = 0) -> Item:
    maps = torch.tensor(regions).view(2, 1, -1)
    width = maps.shape[2]
    views = Views(torch.rand(2, 3, 8, 8, generator=generator(seed)), maps, unit(2, 4, 1, width, dim=1))
    return Item(views, torch.tensor([0, 3]), f"picture {seed}")


def test_region_numbers_are_never_shared_between_images(tmp_path: Path) -> None:
    stream = make_stream(tmp_path)
    batch = collate([stream[position] for position in range(4)])
    numbers = [set(batch.regions[2 * image : 2 * image + 2].flatten().tolist()) for image in range(4)]
    assert all(not numbers[a] & numbers[b] for a in range(4) for b in range(a))
    for image in range(4):
        offset = batch.regions[2 * image] - stream[image].views.regions[0]
        assert offset.unique().numel() == 1
        assert torch.equal(batch.regions[2 * image + 1] - stream[image].views.regions[1], offset)


def test_ignored_pixels_stay_ignored_and_shift_nothing() -> None:
    items = [make_item([[0, 4], [IGNORED, 2]]), make_item([[IGNORED] * 2] * 2), make_item([[0, 1], [1, 0]])]
    regions = collate(items).regions.flatten(1).tolist()
    assert regions == [[0, 4], [IGNORED, 2], [IGNORED, IGNORED], [IGNORED, IGNORED], [5, 6], [6, 5]]


def test_views_of_an_image_lie_side_by_side() -> None:
    items = [make_item([[0, 0], [0, 0]], seed) for seed in range(3)]
    batch = collate(items)
    assert torch.equal(batch.images, torch.cat([item.views.images for item in items]))
    assert torch.equal(batch.pixel_map, torch.cat([item.views[2] for item in items]))


# --------------------------------------------------------------------------------------------------------- batches


def test_batches_are_the_positions_of_the_stream_in_order(tmp_path: Path) -> None:
    stream = make_stream(tmp_path)
    got = list(batches(stream, steps(0, 3, 3), 3))
    assert len(got) == 3
    for step, batch in enumerate(got):
        assert same(batch, collate([stream[position] for position in range(step * 3, step * 3 + 3)]))


@pytest.mark.parametrize("first", [0, 1, 2, 4, 5])
def test_resuming_gives_the_batches_of_an_uninterrupted_run(tmp_path: Path, first: int) -> None:
    whole = list(batches(make_stream(tmp_path), steps(0, 5, 2), 2))
    rest = list(batches(make_stream(tmp_path), steps(first, 5, 2), 2))
    assert len(rest) == 5 - first
    assert all(same(a, b) for a, b in zip(whole[first:], rest, strict=True))


def test_loader_processes_change_nothing(tmp_path: Path) -> None:
    stream = make_stream(tmp_path)
    alone, helped = (list(batches(stream, steps(1, 4, 2), 2, workers)) for workers in (0, 1))
    assert len(alone) == len(helped) == 3
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))


def too_many_open(image: RGB, source: Path) -> NDArray[np.integer]:
    raise OSError(errno.EMFILE, "Too many open files", str(source))


def damaged(image: RGB, source: Path) -> NDArray[np.integer]:
    try:
        raise ValueError("why")
    except ValueError:
        raise UserError(f"{source}: damaged; copy it again")


@pytest.mark.parametrize(("regions", "kind"), [(too_many_open, OSError), (damaged, UserError)])
def test_loader_error_of_a_worker_is_as_it_was_raised(regions: Any, kind: type[Exception], tmp_path: Path) -> None:
    stream = ViewStream(write_images(tmp_path, 1), ItemMaker(regions, colors, CONFIG, 8, 0))
    with pytest.raises(kind, match="Traceback") as raised:
        next(batches(stream, steps(0, 1, 1), 1, workers=1))
    with pytest.raises(kind) as original:
        next(batches(stream, steps(0, 1, 1), 1))
    error = loader_error(raised.value)
    assert type(error) is kind
    assert str(error) == str(original.value)
    assert getattr(error, "errno", None) == getattr(original.value, "errno", None)
    assert loader_error(original.value) is None


def killed(image: RGB, source: Path) -> NDArray[np.integer]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_batches_after_a_worker_was_killed_leaves_no_other(tmp_path: Path) -> None:
    # Python waits at its end for workers that are left, and they ignore SIGTERM
    stream = ViewStream(write_images(tmp_path, 1), ItemMaker(killed, colors, CONFIG, 8, 0))
    with pytest.raises(RuntimeError, match="DataLoader worker") as raised:
        next(batches(stream, steps(0, 1, 1), 1, workers=2))
    assert active_children() == []
    assert "lower data.workers" in str(loader_error(raised.value))
    del raised  # and with it PyTorch's loader, whose threads end here


def test_loader_error_of_the_program_itself_stays() -> None:
    assert loader_error(RuntimeError("Caught KeyError in DataLoader worker process 0.\nTrace\nKeyError: 'a'")) is None
    assert "lower data.workers" in str(loader_error(RuntimeError("DataLoader worker (pid 7) is killed by signal")))


def test_batch_larger_than_the_set_continues_with_the_next_epoch(tmp_path: Path) -> None:
    (batch,) = batches(make_stream(tmp_path, count=2), steps(0, 1, 5), 5)
    assert batch.images.shape == (10, 3, 32, 32)
    assert len(batch.regions) == len(batch.pixel_map) == 10


@pytest.mark.parametrize(("world", "parts"), [(1, 1), (2, 1), (3, 2), (1, 4)])
def test_ranks_share_the_positions_of_one_process_with_their_whole_batch(world: int, parts: int) -> None:
    alone = list(steps(2, 5, 2 * world, parts))
    shares = [list(steps(2, 5, 2, parts, rank, world)) for rank in range(world)]
    assert all(len(share) == len(steps(2, 5, 2, parts, 0, world)) for share in shares)
    together = [
        position for start in range(0, len(shares[0]), 2) for share in shares for position in share[start : start + 2]
    ]
    assert together == alone == list(range(2 * parts * 2 * world, 5 * parts * 2 * world))


def test_drawn_pixels_are_numbered_through_like_the_batch() -> None:
    batch = collate([make_item([[0, 1], [1, 0]], seed) for seed in range(3)])
    assert batch.drawn.tolist() == [0, 3, 4, 7, 8, 11]
    assert batch.names == ("picture 0", "picture 1", "picture 2")


def test_each_image_gives_as_many_pixels_drawn_by_its_position(tmp_path: Path) -> None:
    stream = make_stream(tmp_path, draw=6)
    draws = [stream[position].drawn.tolist() for position in range(4)]
    assert all(len(set(drawn)) == 6 and max(drawn) < 2 * 4 * 4 for drawn in draws)
    assert len({tuple(drawn) for drawn in draws}) == 4
    assert stream[2].drawn.tolist() == draws[2]


def test_every_pixel_is_drawn_as_often_as_another() -> None:
    counts = torch.zeros(8)
    for seed in range(2000):
        counts[draw_pixels(8, 2, generator(seed))] += 1
    assert float((counts / 2000 - 2 / 8).abs().max()) < 0.04
    assert torch.equal(draw_pixels(8, 0, generator(0)), torch.arange(8))
    assert torch.equal(draw_pixels(8, 9, generator(0)), torch.arange(8))


# ---------------------------------------------------------------------------------------------------------- shards


def write_shards(folder: Path, sizes: list[int]) -> list[str]:
    """Tar files of as many pictures each; the second picture of the first is broken."""
    import tarfile

    folder.mkdir(parents=True, exist_ok=True)
    images, shards = write_images(folder / "pictures", sum(sizes)), []
    images[1].write_bytes(b"no picture")
    for number, size in enumerate(sizes):
        shards.append(str(folder / f"{number}.tar"))
        with tarfile.open(shards[-1], "w") as tar:
            for _ in range(size):
                path = images.pop(0)
                tar.add(path, f"{path.stem}.png")
    return shards


def from_shards(
    shards: list[str], first_batch: int, workers: int, count: int, rank: int = 0, world: int = 1
) -> list[Batch]:
    stream = ShardStream(shards, ItemMaker(quarters, colors, CONFIG, 8, 0, 6), 2, first_batch, rank, world)
    return list(islice(batches(stream, None, 2, workers), count))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first", [1, 2, 5])
def test_shards_resume_where_an_uninterrupted_run_would_be(tmp_path: Path, first: int, workers: int) -> None:
    shards = write_shards(tmp_path, [4, 3, 2])
    whole = from_shards(shards, 0, workers, 8)
    rest = from_shards(shards, first, workers, 8 - first)
    assert all(same(a, b) for a, b in zip(whole[first:], rest, strict=True))


def test_broken_image_in_a_shard_is_replaced_by_the_next(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, [4])
    names = [name for batch in from_shards(shards, 0, 0, 4) for name in batch.names]  # two epochs
    assert len(set(names)) == 3
    assert all(name.startswith(shards[0]) for name in names)


def test_ranks_read_different_shards(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, [3, 3, 3, 3])
    first, second = ({n for b in from_shards(shards, 0, 0, 3, rank, 2) for n in b.names} for rank in (0, 1))
    assert not first & second
