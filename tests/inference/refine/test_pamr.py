import pytest
import torch

from clips4.inference.refine.pamr import pamr_affinity, refine_by_affinity
from tests.helpers import generator
from tests.reference import pamr as reference


@pytest.mark.parametrize(("dilations", "iterations"), [((1,), 3), ((1, 2), 2), ((8, 16), 1)])
def test_refine_by_affinity_equals_the_literal_version(dilations: tuple[int, ...], iterations: int) -> None:
    image = torch.rand(3, 6, 7, generator=generator(0), dtype=torch.float64)
    scores = torch.randn(2, 6, 7, generator=generator(1), dtype=torch.float64)
    ours = refine_by_affinity(scores, pamr_affinity(image, dilations), iterations, dilations)
    torch.testing.assert_close(ours, reference.refine(image, scores, dilations, iterations), rtol=0, atol=1e-10)


def test_pamr_affinity_sums_to_one_and_keeps_constant_scores() -> None:
    image = torch.rand(3, 20, 30, generator=generator(0), dtype=torch.float64)
    affinity = pamr_affinity(image)
    assert affinity.shape == (16, 20, 30)
    torch.testing.assert_close(affinity.sum(0), torch.ones(20, 30, dtype=torch.float64))
    flat = torch.full((2, 20, 30), 0.7, dtype=torch.float64)
    torch.testing.assert_close(refine_by_affinity(flat, affinity), flat)


def test_pamr_affinity_constant_image_is_uniform() -> None:
    affinity = pamr_affinity(torch.full((3, 9, 9), 0.5), (1,))
    torch.testing.assert_close(affinity, torch.full((8, 9, 9), 1 / 8))


def test_refine_by_affinity_follows_the_images_edges() -> None:
    """A coarse answer whose border is four pixels off moves to where the color changes."""
    image = torch.zeros(3, 24, 40)
    image[:, :, 20:] = 1
    image += 0.02 * torch.rand(image.shape, generator=generator(0))
    scores = torch.zeros(2, 24, 40)
    scores[0, :, :24] = scores[1, :, 24:] = 1
    labels = refine_by_affinity(scores, pamr_affinity(image, (1, 2, 4)), 40, (1, 2, 4)).argmax(0)
    truth = (torch.arange(40) >= 20).long().expand(24, 40)
    before, after = ((each != truth).float().mean().item() for each in (scores.argmax(0), labels))
    assert after < before / 3


def test_refine_by_affinity_in_chunks_of_classes_is_equal() -> None:
    image = torch.rand(3, 10, 10, generator=generator(0))
    scores, affinity = torch.randn(4, 10, 10, generator=generator(1)), pamr_affinity(image)
    parts = torch.cat([refine_by_affinity(part, affinity) for part in scores.split(3)])
    torch.testing.assert_close(parts, refine_by_affinity(scores, affinity))
