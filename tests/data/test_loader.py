from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from clips4.config import DataConfig
from clips4.data.loader import Batch, ViewStream, batches, collate
from clips4.data.views import Views
from clips4.images import RGB
from clips4.segments import IGNORED
from tests.helpers import generator, unit, write_images

CONFIG = DataConfig(long_side=64, crop=32)


def quarters(image: RGB, source: Path) -> NDArray[np.integer]:
    """Four regions."""
    height, width = image.shape[:2]
    return ((np.arange(height) * 2 // height)[:, None] * 2 + (np.arange(width) * 2 // width)).astype(np.int32)


def colours(image: RGB) -> Tensor:
    """(3, 6, 8) the picture itself, small."""
    small = torch.from_numpy(image[::8, ::8].copy()).permute(2, 0, 1).half()
    return small / small.norm(dim=0).clamp(min=1)


def make_stream(folder: Path, count: int = 5, seed: int = 0) -> ViewStream:
    return ViewStream(write_images(folder, count), quarters, colours, CONFIG, 8, seed)


def same(a: Batch | Views, b: Batch | Views) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------------------------------------------------- stream


def test_every_epoch_shows_every_picture_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    stream = make_stream(tmp_path, count=7)
    epochs = [[stream.picture(epoch * 7 + index) for index in range(7)] for epoch in range(4)]
    assert all(len(set(epoch)) == 7 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_order_and_views_depend_on_the_seed(tmp_path: Path) -> None:
    orders = [[make_stream(tmp_path, 7, seed).picture(p) for p in range(7)] for seed in (0, 1)]
    assert orders[0] != orders[1]
    streams = [make_stream(tmp_path, 1, seed) for seed in (0, 1)]
    assert not torch.equal(streams[0][0].images, streams[1][0].images)


def test_a_position_gives_the_same_views_whenever_it_is_asked(tmp_path: Path) -> None:
    first, second = make_stream(tmp_path), make_stream(tmp_path)
    torch.manual_seed(1)
    views = [first[position] for position in (0, 3, 8)]
    torch.manual_seed(2)
    assert all(same(views[index], second[position]) for index, position in ((2, 8), (0, 0), (1, 3)))


def test_a_picture_is_seen_otherwise_in_the_next_epoch(tmp_path: Path) -> None:
    stream = make_stream(tmp_path, count=1)
    assert stream.picture(0) == stream.picture(1)
    assert not same(stream[0], stream[1])


def test_views_belong_to_the_picture_of_the_position(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 2)
    seen: list[RGB] = []

    def remember(image: RGB, source: Path) -> NDArray[np.integer]:
        assert source == stream.picture(0)
        seen.append(image)
        return quarters(image, source)

    stream = ViewStream(paths, remember, colours, CONFIG, 8, 0)
    views = stream[0]
    from clips4.images import load_rgb

    assert np.array_equal(seen[0], load_rgb(stream.picture(0)))
    assert views.images.shape == (2, 3, 32, 32)
    assert views.regions.shape == (2, 4, 4)
    assert views.pixel_map.shape == (2, 3, 4, 4)


# --------------------------------------------------------------------------------------------------------- collate


def make_views_of(regions: list[list[int]], seed: int = 0) -> Views:
    maps = torch.tensor(regions).view(2, 1, -1)
    width = maps.shape[2]
    return Views(torch.rand(2, 3, 8, 8, generator=generator(seed)), maps, unit(2, 4, 1, width, dim=1))


def test_region_numbers_are_never_shared_between_images(tmp_path: Path) -> None:
    stream = make_stream(tmp_path)
    batch = collate([stream[position] for position in range(4)])
    numbers = [set(batch.regions[2 * image : 2 * image + 2].flatten().tolist()) for image in range(4)]
    assert all(not numbers[a] & numbers[b] for a in range(4) for b in range(a))
    for image in range(4):
        offset = batch.regions[2 * image] - stream[image].regions[0]
        assert offset.unique().numel() == 1
        assert torch.equal(batch.regions[2 * image + 1] - stream[image].regions[1], offset)


def test_ignored_pixels_stay_ignored_and_shift_nothing() -> None:
    items = [make_views_of([[0, 4], [IGNORED, 2]]), make_views_of([[IGNORED] * 2] * 2), make_views_of([[0, 1], [1, 0]])]
    regions = collate(items).regions.flatten(1).tolist()
    assert regions == [[0, 4], [IGNORED, 2], [IGNORED, IGNORED], [IGNORED, IGNORED], [5, 6], [6, 5]]


def test_views_of_an_image_lie_side_by_side() -> None:
    items = [make_views_of([[0, 0], [0, 0]], seed) for seed in range(3)]
    batch = collate(items)
    assert torch.equal(batch.images, torch.cat([item.images for item in items]))
    assert torch.equal(batch.pixel_map, torch.cat([item.pixel_map for item in items]))


# --------------------------------------------------------------------------------------------------------- batches


def test_batches_are_the_positions_of_the_stream_in_order(tmp_path: Path) -> None:
    stream = make_stream(tmp_path)
    got = list(batches(stream, 3, 0, 3, 0))
    assert len(got) == 3
    for step, batch in enumerate(got):
        assert same(batch, collate([stream[position] for position in range(step * 3, step * 3 + 3)]))


@pytest.mark.parametrize("first", [0, 1, 2, 4, 5])
def test_resuming_gives_the_batches_of_an_uninterrupted_run(tmp_path: Path, first: int) -> None:
    whole = list(batches(make_stream(tmp_path), 2, 0, 5, 0))
    rest = list(batches(make_stream(tmp_path), 2, first, 5, 0))
    assert len(rest) == 5 - first
    assert all(same(a, b) for a, b in zip(whole[first:], rest, strict=True))


def test_loader_processes_change_nothing(tmp_path: Path) -> None:
    stream = make_stream(tmp_path)
    alone, helped = (list(batches(stream, 2, 1, 4, workers)) for workers in (0, 1))
    assert len(alone) == len(helped) == 3
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))


def test_a_batch_larger_than_the_set_goes_on_with_the_next_epoch(tmp_path: Path) -> None:
    (batch,) = batches(make_stream(tmp_path, count=2), 5, 0, 1, 0)
    assert batch.images.shape == (10, 3, 32, 32)
    assert len(batch.regions) == len(batch.pixel_map) == 10
