"""How images are read: windows, scales, mirrored; each against an obvious version."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.encoding.tta import InferenceOptions, embed_with_options
from clips4.models.sliding_window import at_inference_size, encode_in_windows, hann, window_starts
from clips4.utils.images import reduce_to
from clips4.utils.tensors import to_tensor
from tests.helpers import noise_image

STRIDE = 8


def color(images: Tensor) -> Tensor:
    """A network that looks at one position alone: the mean color of each 8 x 8 block, and a constant."""
    means = F.avg_pool2d(images, STRIDE)
    return F.normalize(torch.cat([means, torch.full_like(means[:, :1], 0.5)], 1), dim=1)


class Context:
    """A network whose answer at a position depends on the whole image that it is shown; it notes their sizes."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.shown.append((images.shape[-2], images.shape[-1]))
        z = color(images)
        return F.normalize(z + images.mean((2, 3))[..., None, None].mean(1, keepdim=True) * z.flip(1), dim=1)


def test_embed_with_options_plain_is_one_pass() -> None:
    image = noise_image(60, 90)
    z = embed_with_options(color, image, 64, STRIDE, InferenceOptions())
    assert torch.equal(z, color(to_tensor(reduce_to(image, 64))[None])[0])


def test_embed_with_options_windows_of_a_local_network_equal_the_whole() -> None:
    """Where a position's answer does not depend on what is around it, windows leave no trace."""
    image = noise_image(176, 256)
    whole = embed_with_options(color, image, 256, STRIDE, InferenceOptions())
    for window, overlap in itertools.product((32, 64, 100, 200), (0, 0.25, 0.5, 0.9)):
        z = embed_with_options(color, image, 256, STRIDE, InferenceOptions(window=window, overlap=overlap))
        torch.testing.assert_close(z, whole)


def test_embed_with_options_windows_are_blended_by_weight() -> None:
    """The weighted mean of the windows that see a position, brought to unit length, one position after the other."""
    image, window, network = noise_image(64, 96, seed=2), 48, Context()
    z = embed_with_options(network, image, 96, STRIDE, InferenceOptions(window=window))
    assert set(network.shown) == {(48, 48)}
    shown, side = to_tensor(image)[None], window // STRIDE
    total = torch.zeros(4, 8, 12)
    for top, left in itertools.product(window_starts(8, side, 3), window_starts(12, side, 3)):
        part = network(shown[..., top * 8 : top * 8 + 48, left * 8 : left * 8 + 48])[0]
        for y, x in itertools.product(range(side), repeat=2):
            weight = np.sin(np.pi * (y + 0.5) / side) ** 2 * np.sin(np.pi * (x + 0.5) / side) ** 2
            total[:, top + y, left + x] += weight * part[:, y, x]
    torch.testing.assert_close(z, F.normalize(total, dim=0))


def test_hann_is_positive_symmetric_and_largest_inside() -> None:
    weights = hann(6, 9)
    assert weights.shape == (6, 9)
    assert (weights > 0).all()
    torch.testing.assert_close(weights, weights.flip(0).flip(1))
    assert weights.argmax() == 2 * 9 + 4 or weights.argmax() == 3 * 9 + 4
    assert hann(1, 1).item() == pytest.approx(1)


def test_windows_without_weights_are_averaged() -> None:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    even = encode_in_windows(images, Context(), STRIDE, 32, 0.5, lambda rows, columns: torch.ones(rows, columns))
    torch.testing.assert_close(even, encode_in_windows(images, Context(), STRIDE, 32, 0.5))


def test_embed_with_options_flip_averages_the_mirrored_image() -> None:
    image, network = noise_image(64, 96, seed=4), Context()
    both = embed_with_options(network, image, 96, STRIDE, InferenceOptions(flip=True))
    mirrored = embed_with_options(network, image[:, ::-1].copy(), 96, STRIDE, InferenceOptions(flip=True))
    torch.testing.assert_close(both, mirrored.flip(-1))
    plain, other = network(to_tensor(image)[None])[0], network(to_tensor(image[:, ::-1].copy())[None])[0].flip(-1)
    torch.testing.assert_close(both, F.normalize(plain + other, dim=0))


def test_embed_with_options_scales_are_averaged_on_the_finest_map() -> None:
    image, network = noise_image(80, 160, seed=5), Context()
    z = embed_with_options(network, image, 80, STRIDE, InferenceOptions(scales=(1, 2)))
    assert network.shown == [(80, 160), (40, 80)]
    fine, coarse = network(to_tensor(image)[None]), network(to_tensor(reduce_to(image, 80))[None])
    expected = F.normalize(fine + F.interpolate(coarse, (10, 20), mode="bilinear"), dim=1)[0]
    torch.testing.assert_close(z, expected)
    assert torch.equal(z, embed_with_options(network, image, 80, STRIDE, InferenceOptions(scales=(2, 1))))


def test_embed_with_options_every_combination_gives_unit_vectors() -> None:
    image = noise_image(77, 131, seed=6)
    for scales, flip, window in itertools.product(((1.0,), (0.5, 1.0, 1.7)), (False, True), (None, 40)):
        z = embed_with_options(Context(), image, 96, STRIDE, InferenceOptions(scales, flip, window))
        torch.testing.assert_close(z.norm(dim=0), torch.ones(z.shape[1:]))


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (33, 2000)])
def test_embed_with_options_tiny_and_elongated_images_give_unit_vectors(size: tuple[int, int]) -> None:
    image = noise_image(*size)
    for options in (InferenceOptions(), InferenceOptions((1, 2), flip=True), InferenceOptions(window=32)):
        z = embed_with_options(color, image, 96, STRIDE, options)
        assert z.shape[0] == 4
        assert torch.isfinite(z).all()


def test_at_inference_size_scale_above_one_enlarges() -> None:
    assert at_inference_size(noise_image(40, 60), 320).shape == (1, 3, 40, 60)
    assert at_inference_size(noise_image(40, 60), 320, 2).shape == (1, 3, 80, 120)
    assert at_inference_size(noise_image(400, 600), 300, 2).shape == (1, 3, 400, 600)
    assert at_inference_size(noise_image(400, 600), 300, 0.5).shape == (1, 3, 100, 150)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scales": ()}, "scales"),
        ({"scales": (0.0,)}, "scales"),
        ({"scales": (float("nan"),)}, "scales"),
        ({"scales": (1, 100)}, "from 0.05 to 32"),
        ({"window": 8}, "too small"),
        ({"overlap": 1.0}, "overlap"),
        ({"overlap": -0.1}, "overlap"),
        ({"refine": "crf"}, "choose one of pamr, regions"),
    ],
)
def test_inference_options_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InferenceOptions(**values)  # type: ignore[arg-type]


def test_check_window_without_effect_is_refused() -> None:
    InferenceOptions(window=319).check(320)
    with pytest.raises(UserError, match=r"images are encoded at 320; give scales above 1\.3"):
        InferenceOptions(window=400).check(320)
    InferenceOptions(scales=(1, 2), window=400).check(320)
