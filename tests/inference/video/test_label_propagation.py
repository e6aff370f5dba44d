"""Label propagation against the literal version, and what it must do whatever the features are."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.encoding.encoder import Encoder
from clips4.inference.video.label_propagation import Recipe, harden, propagate, propagate_masks, source_blocks, track
from clips4.utils.images import RGB
from tests.helpers import photograph, provable, seeds, unit
from tests.reference import propagation as literal


def soft(classes: int, height: int, width: int, seed: int) -> Tensor:
    return torch.randn(classes, height, width, generator=torch.Generator().manual_seed(seed)).softmax(0)


@provable
@given(seeds, st.sampled_from([(5, 7), (12, 12), (13, 25), (1, 3), (26, 9)]), st.integers(0, 4), st.integers(1, 6))
def test_propagate_equals_the_literal_version(seed: int, size: tuple[int, int], radius: int, top: int) -> None:
    z = unit(6, *size, seed=seed, dim=0)
    sources = [unit(6, *size, seed=seed + i + 1, dim=0) for i in range(2)]
    labels = [soft(3, *size, seed + i).double() for i in range(2)]
    recipe = Recipe(radius=radius, top=top, temperature=0.2)
    fast = propagate(z, [source_blocks(source, radius) for source in sources], labels, recipe)
    slow = torch.tensor(literal.propagate(z, sources, labels, radius, top, 0.2), dtype=torch.float64)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-10)


def test_propagate_labels_still_sum_to_one() -> None:
    z, labels = unit(8, 20, 31, dim=0), [soft(4, 20, 31, 1).double()]
    mixed = propagate(z, [source_blocks(z, 3)], labels, Recipe(radius=3))
    torch.testing.assert_close(mixed.sum(0), torch.ones(20, 31, dtype=torch.float64))


def test_propagate_pixel_beyond_the_radius_has_no_effect() -> None:
    z = torch.zeros(2, 1, 20)
    z[0] = 1
    z[:, 0, 0] = torch.tensor([0.0, 1.0])  # the first pixel alone is of another kind
    moved = z.flip(2)  # now it is the last one
    label = torch.zeros(2, 1, 20)
    label[0], label[:, 0, 0] = 1, torch.tensor([0.0, 1.0])
    near = propagate(moved, [source_blocks(z, 19)], [label], Recipe(radius=19, top=1))
    far = propagate(moved, [source_blocks(z, 18)], [label], Recipe(radius=18, top=1))
    assert near[1, 0, 19] == 1
    assert far[1].max() == 0


def colors(images: Tensor) -> Tensor:
    """Features that see color alone, one per 4 x 4 block."""
    return F.normalize(F.avg_pool2d(images, 4) + 1e-3, dim=1)


def color_encoder(network: Callable[[Tensor], Tensor] = colors) -> Encoder:
    return Encoder(network, 1000, 4, torch.device("cpu"), cache_bytes=0)


def named(frames: Iterable[RGB]) -> Iterator[tuple[str, RGB]]:
    return ((str(number), frame) for number, frame in enumerate(frames))


def moving(places: list[tuple[int, int]], second: bool = False) -> Iterator[RGB]:
    """A red square on blue ground at each place; a green one stands below it."""
    for y, x in places:
        frame = np.zeros((64, 80, 3), np.uint8)
        frame[..., 2] = 255
        frame[y : y + 16, x : x + 16] = (255, 0, 0)
        if second:
            frame[44:56, 60:72] = (0, 255, 0)
        yield frame


PLACES = [(8, 8), (8, 16), (12, 24), (16, 32), (16, 40)]


def test_track_two_objects_are_followed() -> None:
    first = np.zeros((64, 80), np.uint8)
    first[8:24, 8:24], first[44:56, 60:72] = 1, 2
    masks = list(track(named(moving(PLACES, second=True)), first, color_encoder(), Recipe(radius=4)))
    assert np.array_equal(masks[0].mask, first)
    for mask, (y, x) in zip((each.mask for each in masks), PLACES, strict=True):
        truth = np.zeros_like(first)
        truth[y : y + 16, x : x + 16], truth[44:56, 60:72] = 1, 2
        assert (mask == truth).mean() > 0.96
        for number in (1, 2):
            overlap = ((mask == number) & (truth == number)).sum() / ((mask == number) | (truth == number)).sum()
            assert overlap > 0.7


def test_track_odd_frame_size_keeps_the_size() -> None:
    frames = [np.zeros((37, 53, 3), np.uint8)] * 3
    first = np.zeros((37, 53), np.uint8)
    first[5:20, 5:20] = 1
    assert [each.mask.shape for each in track(named(frames), first, color_encoder())] == [(37, 53)] * 3


def test_track_without_frames_before_uses_the_first_alone() -> None:
    """With no frame before, all comes from the first: a frame in between that is different changes nothing."""
    first = np.zeros((64, 80), np.uint8)
    first[8:24, 8:24] = 1
    frames = list(moving([(8, 8), (8, 12)]))
    recipe = Recipe(before=0, radius=4)
    odd = [frames[0], np.zeros_like(frames[0]), frames[1]]
    with_odd = list(track(named(odd), first, color_encoder(), recipe))[-1].mask
    without = list(track(named(frames), first, color_encoder(), recipe))[-1].mask
    assert np.array_equal(with_odd, without)


def test_harden_faded_object_survives_scaling() -> None:
    labels = torch.zeros(2, 4, 4)
    labels[0], labels[1] = 0.9, 0.1
    labels[:, 1, 1] = torch.tensor([0.6, 0.4])  # never the largest, but the object's peak
    mask = harden(labels, (4, 4))
    assert mask[1, 1] == 1
    assert mask.sum() == 1


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [([0], "0 objects"), (range(1, 256), "255 objects"), ([255], "an object 255"), ([-1], "-1"), ([65535], "65535")],
)
def test_track_mask_without_or_with_too_many_objects_is_refused(numbers: Sequence[int], reason: str) -> None:
    first = np.resize(np.array(numbers, np.int64), (16, 16))
    with pytest.raises(UserError, match=reason):
        next(track(named([np.zeros((16, 16, 3), np.uint8)]), first, color_encoder()))


def test_track_frame_of_another_size_is_refused() -> None:
    first = np.ones((8, 8), np.uint8)
    with pytest.raises(UserError, match=r"frame 0: .* is not the size"):
        list(track(named([np.zeros((8, 12, 3), np.uint8)]), first, color_encoder()))
    with pytest.raises(UserError, match="temperature above 0"):
        Recipe(temperature=0)


def test_propagate_masks_arrays_yields_frames_with_masks() -> None:
    frames = [np.full((16, 24, 3), 40, np.uint8) for _ in range(3)]
    for index, frame in enumerate(frames):
        frame[4:12, 4 + 4 * index : 12 + 4 * index, 0] = 200
    first = (frames[0][..., 0] == 200).astype(np.uint8)
    found = list(propagate_masks(iter(frames), first, color_encoder(), Recipe(radius=3)))
    assert len(found) == 3
    for index, ((name, image, mask), frame) in enumerate(zip(found, frames, strict=True)):
        assert name == str(index)
        assert image is frame
        assert mask[8, 8 + 4 * index] == 1
        assert mask[14].max() == 0


def test_propagate_masks_files_and_run_yield_uint8_masks(tmp_path: Path, tiny_run: Path) -> None:
    (tmp_path / "frames").mkdir()
    for index in range(2):
        photograph().save(tmp_path / f"frames/{index}.png")
    mask = np.zeros((72, 96), np.uint8)
    mask[20:50, 30:60] = 1
    Image.fromarray(mask).save(tmp_path / "first.png")
    found = list(propagate_masks(tmp_path / "frames", tmp_path / "first.png", tiny_run, device="cpu"))
    np.testing.assert_array_equal(found[0].mask, mask)
    assert found[1].mask.shape == (72, 96)
    assert found[1].mask.dtype == np.uint8
