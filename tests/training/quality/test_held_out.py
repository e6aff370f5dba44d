"""Which images are kept out of training."""

from pathlib import Path

import pytest

from clips4.training.quality.held_out import held_out, split_held_out


@pytest.mark.parametrize(
    ("images", "share", "count"),
    [(9, 0.1, 0), (10, 0.1, 2), (24, 0.1, 2), (100, 0.1, 10), (5000, 0.1, 32), (100, 0, 0), (10, 1, 9)],
)
def test_held_out_count_follows_the_share_within_limits(images: int, share: float, count: int) -> None:
    assert len(held_out(range(images), share)) == count


def test_held_out_images_are_usable_different_and_the_same_every_time() -> None:
    usable = [3 * i for i in range(57)]
    found = held_out(usable, 0.2)
    assert set(found) < set(usable)
    assert len(set(found)) == len(found)
    assert list(found) == sorted(found)
    assert held_out(usable, 0.2) == found


def test_split_held_out_keeps_every_image_once_and_shards_whole() -> None:
    paths = [Path(f"{i}.jpg") for i in range(24)]
    training, out = split_held_out(paths, 0.125)
    assert (len(training), out) == (21, [paths[4], paths[12], paths[20]])
    assert sorted(training + out) == sorted(paths)
    assert split_held_out([Path("a.tar")] * 20, 0.5)[1] == []
