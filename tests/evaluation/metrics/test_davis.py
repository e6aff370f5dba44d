"""J and F against the literal version, closed forms and invariances."""

import math
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from clips4.data.label_maps import read_labels
from clips4.evaluation.metrics.davis import boundary_map, contour_accuracy, region_similarity, statistics
from tests.helpers import provable, seeds, shared
from tests.reference import davis as literal

Mask = NDArray[np.bool_]
Values = TypeVar("Values", bound=np.generic)


def blob(seed: int, height: int = 61, width: int = 90, smooth: float = 5) -> Mask:
    """A few smooth blobs, which may touch the border."""
    noise = np.random.default_rng(seed).standard_normal((height, width))
    return gaussian_filter(noise, smooth) > 0.01


def shifted(mask: NDArray[Values], dy: int, dx: int) -> NDArray[Values]:
    """The mask moved, with nothing where it came from."""
    moved = np.zeros_like(mask)
    h, w = mask.shape
    moved[max(0, dy) : h + min(0, dy), max(0, dx) : w + min(0, dx)] = mask[
        max(0, -dy) : h + min(0, -dy), max(0, -dx) : w + min(0, -dx)
    ]
    return moved


@provable
@given(seeds, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([0.5, 2, 6]))
def test_equal_to_the_literal_version(seed: int, dy: int, dx: int, smooth: float) -> None:
    truth = blob(seed, smooth=smooth)
    for prediction in (shifted(truth, dy, dx), blob(seed + 1, smooth=smooth)):
        assert np.array_equal(boundary_map(truth), literal.seg2bmap(truth))
        assert region_similarity(truth, prediction) == pytest.approx(literal.jaccard(truth, prediction), abs=1e-12)
        assert contour_accuracy(truth, prediction) == pytest.approx(literal.f_measure(truth, prediction), abs=1e-12)


@pytest.mark.parametrize("bound", [0.001, 0.02, 0.3])
def test_contour_accuracy_any_tolerance_equals_the_literal_version(bound: float) -> None:
    truth, prediction = blob(1), blob(2)
    assert contour_accuracy(truth, prediction, bound) == pytest.approx(literal.f_measure(truth, prediction, bound))


@provable
@given(seeds, st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.05, 0.5]), st.sampled_from([0.03, 0.25, 0.9]))
def test_contour_accuracy_few_pixels_in_small_frames_equals_the_literal_version(
    seed: int, height: int, width: int, share: float, bound: float
) -> None:
    draw = np.random.default_rng(seed)
    truth, prediction = (draw.random((height, width)) < share for _ in range(2))
    assert contour_accuracy(truth, prediction, bound) == pytest.approx(literal.f_measure(truth, prediction, bound))


def test_empty_and_full_masks() -> None:
    empty, full, some = np.zeros((40, 50), bool), np.ones((40, 50), bool), blob(3, 40, 50)
    assert region_similarity(empty, empty) == contour_accuracy(empty, empty) == 1
    assert region_similarity(some, empty) == region_similarity(empty, some) == 0
    assert contour_accuracy(some, empty) == contour_accuracy(empty, some) == 0
    assert contour_accuracy(full, empty) == 1, "neither has a boundary within the frame, as the official scorer says"
    assert region_similarity(full, empty) == 0
    assert region_similarity(full, full) == 1


def test_square_by_hand() -> None:
    truth, prediction = np.zeros((480, 854), bool), np.zeros((480, 854), bool)
    truth[100:200, 100:200] = True
    prediction[100:200, 150:250] = True
    assert region_similarity(truth, prediction) == pytest.approx(5000 / 15000)
    prediction = shifted(truth, 0, 8)
    assert math.ceil(0.008 * math.hypot(480, 854)) == 8
    assert contour_accuracy(truth, prediction) == 1, "8 pixels at 480 x 854 lie within the tolerance"
    assert contour_accuracy(truth, shifted(truth, 0, 9)) < 1


@provable
@given(seeds)
def test_symmetric_and_the_same_mirrored_about_the_diagonal(seed: int) -> None:
    a, b = blob(seed), blob(seed + 1)
    assert contour_accuracy(a, b) == pytest.approx(contour_accuracy(b, a))
    assert contour_accuracy(a, b) == pytest.approx(contour_accuracy(a.T, b.T))


@provable
@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_statistics_equal_the_literal_ones(values: list[float]) -> None:
    np.testing.assert_allclose(statistics(np.array(values)), literal.mean_recall_decay(values), atol=1e-12)


def test_statistics_of_short_series_equal_those_by_hand() -> None:
    result = statistics(np.array([1.0, 1, 0.8, 0.8, 0.5, 0.5, 0.2, 0.2]))
    assert result.mean == pytest.approx(0.625)
    assert result.recall == 0.5, "0.5 itself is not above"
    assert result.decay == pytest.approx((1 + 1 + 0.8) / 3 - (0.5 + 0.2 + 0.2) / 3)
    rising = statistics(np.linspace(0, 1, 900))
    assert rising.decay == pytest.approx(-0.75, abs=0.01), "sequences of more than 256 frames are cut rightly too"


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="of one size"):
        region_similarity(np.zeros((3, 4), bool), np.zeros((4, 3), bool))
    with pytest.raises(ValueError, match="one frame or more"):
        statistics(np.zeros(0))


def test_real_masks_with_shifted_truths() -> None:
    root = shared("davis16") / "Annotations/480p"
    for sequence in sorted(root.iterdir())[:10]:
        frames = sorted(sequence.iterdir())
        for frame, move in ((frames[1], (0, 5)), (frames[len(frames) // 2], (-20, 13))):
            truth = read_labels(frame) > 0
            prediction = shifted(truth, *move)
            assert abs(region_similarity(truth, prediction) - literal.jaccard(truth, prediction)) < 1e-9
            assert abs(contour_accuracy(truth, prediction) - literal.f_measure(truth, prediction)) < 1e-9
