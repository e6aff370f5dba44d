"""The gradient detector: color space, cues, where it finds contours and where not."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import rgb2lab

from clips4.regions.contour_map import max_strength
from clips4.regions.gradient import (
    BIAS,
    CUES,
    FLOOR,
    cue_strengths,
    gradient_contours,
    structure_tensor,
    to_lab,
)
from tests.helpers import noise_image


def test_lab_is_that_of_scikit_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_allclose(to_lab(image), np.moveaxis(rgb2lab(image), 2, 0), atol=0.02)


def test_structure_tensor_knows_the_slope_across_every_direction() -> None:
    y, x = np.mgrid[:20, :30].astype(np.float32)
    channels = np.stack([3 * x + y, 2 * y])
    tensor = structure_tensor(channels)[:, 10, 15]
    for angle in np.linspace(0, np.pi, 7):
        n = np.array([np.cos(angle), np.sin(angle)])
        slopes = np.array([[3, 1], [0, 2]]) @ n
        form = tensor[0] * n[0] ** 2 + 2 * tensor[1] * n[0] * n[1] + tensor[2] * n[1] ** 2
        assert form == pytest.approx((slopes**2).sum(), rel=1e-5)
    expected = np.linalg.svd(np.array([[3, 1], [0, 2]]), compute_uv=False)[0]
    assert max_strength(structure_tensor(channels))[10, 15] == pytest.approx(expected, rel=1e-5)


def test_strength_is_the_logistic_function_of_the_cues() -> None:
    image = noise_image(64, 96, 3)
    cues = cue_strengths(image)
    assert set(cues) == set(CUES)
    logits = BIAS + sum(CUES[name].weight * np.log(s / CUES[name].spread + FLOOR) for name, s in cues.items())
    # enlarging comes before the logarithm here and after it there
    np.testing.assert_allclose(gradient_contours(image).strength, 1 / (1 + np.exp(-logits)), atol=0.05)


def test_tensor_and_strength_agree() -> None:
    contours = gradient_contours(noise_image(50, 70, 1))
    np.testing.assert_allclose(max_strength(contours.tensor), contours.strength, rtol=1e-3, atol=1e-5)


def half_and_half(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([left[:, :60], right[:, :60]], 1)


def flat(color: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.full((80, 60, 3), color, np.uint8)


def stripes(strength_across: bool) -> NDArray[np.uint8]:
    y, x = np.mgrid[:80, :60]
    return np.repeat((60 + 130 * ((x if strength_across else y) // 3 % 2))[..., None], 3, 2).astype(np.uint8)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (flat((60, 60, 60)), flat((160, 160, 160))),  # brightness
        (flat((170, 90, 90)), flat((80, 130, 90))),  # color
        (stripes(True), stripes(False)),  # texture alone: brightness and color have the same histograms
    ],
    ids=["brightness", "color", "texture"],
)
def test_border_is_strong(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> None:
    strength = gradient_contours(half_and_half(left, right)).strength[20:60]
    profile = strength.mean(0)
    assert 55 <= profile[10:110].argmax() + 10 <= 64
    assert profile[56:64].max() > 1.6 * max(profile[15:40].max(), profile[80:105].max())


def test_normal_lies_across_the_border() -> None:
    contours = gradient_contours(half_and_half(flat((60, 60, 60)), flat((160, 160, 160))))
    xx, _, yy = contours.tensor[:, 40, 60]
    assert xx > 100 * yy


def test_flat_image_has_no_contours() -> None:
    assert gradient_contours(flat((120, 60, 200))).strength.max() < 0.01


def test_image_turned_over_has_its_contours_turned_over() -> None:
    image = noise_image(48, 64, 5)
    strength, turned = gradient_contours(image).strength, gradient_contours(image.swapaxes(0, 1).copy()).strength
    # textons are clustered from a sample of places, which is not the same
    assert np.corrcoef(strength.ravel(), turned.T.ravel())[0, 1] > 0.97


def test_contours_are_the_same_every_time() -> None:
    image = noise_image(40, 56)
    assert np.array_equal(gradient_contours(image).tensor, gradient_contours(image).tensor)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (17, 31)])
def test_gradient_contours_odd_sizes_are_finite(shape: tuple[int, int]) -> None:
    contours = gradient_contours(noise_image(*shape))
    assert contours.strength.shape == shape
    assert contours.tensor.shape == (3, *shape)
    assert np.isfinite(contours.tensor).all()
    assert all(cue.shape == shape for cue in cue_strengths(noise_image(*shape)).values())
