import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clips4.models.sliding_window import InferenceSize, at_inference_size, encode_in_windows, to_patches, window_starts
from tests.helpers import generator, provable

PATCH = 4


def patch_means(images: Tensor) -> Tensor:
    """A reading that sees each patch alone, so that windows change nothing."""
    return torch.nn.functional.avg_pool2d(images, PATCH)


@provable
@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 20))
def test_windows_cover_a_side_and_stay_inside(size: int, window: int, stride: int) -> None:
    stride = min(stride, window)
    starts = window_starts(size, window, stride)
    covered = {place for start in starts for place in range(start, min(start + window, size))}
    assert covered == set(range(size))
    assert starts == sorted(set(starts))
    assert all(0 <= start <= max(0, size - window) for start in starts)


@provable
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.floats(0, 0.99))
def test_attention_of_patches_is_the_same_in_windows(height: int, width: int, window: int, overlap: float) -> None:
    images = torch.rand(2, 3, height * PATCH, width * PATCH, generator=generator(0), dtype=torch.float64)
    ours = encode_in_windows(images, patch_means, PATCH, window, overlap)
    torch.testing.assert_close(ours, patch_means(images), rtol=0, atol=1e-12)


def test_sliding_window_overlaps_are_averaged() -> None:
    """Each window says a number of its own."""
    said = iter([1.0, 2.0, 4.0])

    def read(pixels: Tensor) -> Tensor:
        return torch.full((1, 1, 1, pixels.shape[-1] // PATCH), next(said))

    out = encode_in_windows(torch.zeros(1, 3, PATCH, 8 * PATCH), read, PATCH, 4 * PATCH, 0.5)
    assert out.flatten().tolist() == [1, 1, 1.5, 1.5, 3, 3, 4, 4]


@pytest.mark.parametrize("window", [0, 40, 100])
def test_image_no_larger_than_the_window_is_read_once_and_whole(window: int) -> None:
    shapes = []

    def read(pixels: Tensor) -> Tensor:
        shapes.append(tuple(pixels.shape))
        return patch_means(pixels)

    encode_in_windows(torch.zeros(2, 3, 40, 20), read, PATCH, window, 0.5)
    assert shapes == [(2, 3, 40, 20)]


def test_no_window_is_larger_than_requested() -> None:
    shapes = set()

    def read(pixels: Tensor) -> Tensor:
        shapes.add(tuple(pixels.shape[-2:]))
        return patch_means(pixels)

    encode_in_windows(torch.zeros(1, 3, 100, 8), read, PATCH, 32, 0.25)
    assert shapes == {(32, 8)}


def test_sides_become_the_nearest_multiple_of_the_patch() -> None:
    for side, wanted in ((16, 16), (17, 16), (18, 16), (19, 20), (1, 4), (511, 512)):
        assert to_patches(torch.zeros(1, 3, side, 8), 4).shape == (1, 3, wanted, 8)
    whole = torch.rand(1, 3, 8, 12)
    assert to_patches(whole, 4) is whole


@provable
@given(height=st.integers(1, 4000), width=st.integers(1, 4000))
def test_inference_size_side_is_symmetric_and_bounded(height: int, width: int) -> None:
    size = InferenceSize(416, 312)
    side = size.side_of(height, width)
    assert side == size.side_of(width, height)
    assert 416 <= side <= size.largest == 624
    assert InferenceSize(416).side_of(height, width) == InferenceSize(416).largest == 416


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((480, 640), (312, 416)), ((427, 640), (312, 468)), ((480, 854), (312, 555)), ((200, 300), (200, 300))],
)
def test_at_inference_size_wide_images_keep_their_height(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    assert at_inference_size(image, InferenceSize(416, 312)).shape[2:] == expected
    assert at_inference_size(image, InferenceSize(416)).shape == at_inference_size(image, 416).shape
