"""Calibration of the teacher's space: what it is invariant to, exactly."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clips4.method.calibration import SpaceCalibration, fit_calibration, mean_vector, remove_offset
from clips4.method.losses.contrastive import pixel_segment_contrast
from clips4.method.losses.embedding_consistency import embedding_consistency
from clips4.method.losses.semantic_consistency import semantic_consistency
from clips4.method.prototypes import assign_in_context, known_prototypes
from clips4.method.segments import cut_by_regions, flatten_pixels, pool, spherical_kmeans
from tests.helpers import generator, provable, seeds, unit

D, CLASSES, IMAGES = 24, 5, 6


class Space(NamedTuple):
    """Pixel maps (B, D, h, w), text vectors (K, D) and vocabulary (V, D) of a teacher."""

    maps: Tensor
    text: Tensor
    vocabulary: Tensor


def make_space(seed: int) -> Space:
    """Pixels and names around common class directions."""
    directions, random = unit(CLASSES, D, seed=seed), generator(seed)
    kinds = torch.randint(CLASSES, (IMAGES, 8, 8), generator=random)
    noise = torch.randn(IMAGES, D, 8, 8, generator=random, dtype=torch.float64)
    maps = F.normalize(directions[kinds].permute(0, 3, 1, 2) + 0.5 * noise, dim=1)
    text = directions + 0.4 * torch.randn(CLASSES, D, generator=random, dtype=torch.float64)
    return Space(maps, F.normalize(text, dim=1), unit(200, D, seed=seed + 1))


def method_in(space: Space) -> tuple[Tensor, Tensor]:
    """y_s of all segments and the three losses of a student that is a function of the calibrated maps."""
    means = torch.stack([mean_vector(each) for each in space.maps])
    found = fit_calibration(means, space.vocabulary)
    pixels, text = found.pixels(space.maps), found.text(space.text)
    regions = torch.arange(IMAGES)[:, None, None].expand(-1, 8, 8).contiguous()
    segments = cut_by_regions(spherical_kmeans(pixels, 4, 5, 0.5), regions)
    labels = segments.labels.flatten()
    guidance = pool(flatten_pixels(pixels), labels, len(segments.region))
    prototypes = torch.cat([known_prototypes(text, guidance, 4), guidance[:3]])
    y = assign_in_context(guidance, prototypes, segments.view, IMAGES, 0.07, 1.0)
    z = F.normalize(pixels.roll(1, 2) + 0.3 * pixels, dim=1)
    v = pool(flatten_pixels(z), labels, len(segments.region))
    losses = [
        pixel_segment_contrast(flatten_pixels(z), regions.flatten(), labels, v, segments.region, 10.0),
        embedding_consistency(v, guidance),
        semantic_consistency(v, guidance, prototypes, 0.07, "mean", y),
    ]
    return y, torch.stack([*losses, (text @ guidance.T).sum()])


def assert_same(one: Space, other: Space) -> None:
    (y, losses), (other_y, other_losses) = method_in(one), method_in(other)
    assert torch.equal(y, other_y)
    torch.testing.assert_close(other_losses, losses, rtol=0, atol=1e-5)


@provable
@given(seed=seeds, scale=st.floats(0.2, 20), text_scale=st.floats(0.2, 20), length=st.floats(0, 5))
def test_calibration_any_offset_and_scale_gives_the_same_losses(
    seed: int, scale: float, text_scale: float, length: float
) -> None:
    space = make_space(seed)
    pixel_offset, text_offset = length * unit(1, D, seed=seed + 2), length * unit(1, D, seed=seed + 3)
    moved = Space(
        scale * space.maps + pixel_offset[0][:, None, None],
        text_scale * space.text + text_offset,
        text_scale * space.vocabulary + text_offset,
    )
    assert_same(space, moved)


@pytest.mark.parametrize("scale", [0.1, 0.5, 2.0])
def test_calibration_narrow_cone_gives_the_same_losses(scale: float) -> None:
    """z -> normalize([a z, 1, 0]), t -> normalize([a t, .2, .98]): cosines of CLIP's size, the same classes."""
    space = make_space(3)
    one = torch.ones_like(space.maps[:, :1])
    maps = F.normalize(torch.cat([scale * space.maps, one, 0 * one], 1), dim=1)

    def cone(rows: Tensor) -> Tensor:
        constant = rows.new_tensor([0.2, 0.98]).expand(len(rows), -1)
        return F.normalize(torch.cat([scale * rows, constant], 1), dim=1)

    assert_same(space, Space(maps, cone(space.text), cone(space.vocabulary)))


def test_fit_calibration_reference_images_take_their_share() -> None:
    means, references, words = unit(4, D, seed=0), unit(3, D, seed=1), unit(9, D, seed=2)
    found = fit_calibration(means, words, references, share=0.25)
    torch.testing.assert_close(found.pixel_offset, 0.75 * means.mean(0) + 0.25 * references.mean(0))
    torch.testing.assert_close(found.text_offset, words.mean(0))


@pytest.mark.parametrize(("images", "words", "share"), [(0, 3, 0.5), (2, 0, 0.5), (2, 3, 1.5)])
def test_fit_calibration_nothing_to_average_raises(images: int, words: int, share: float) -> None:
    with pytest.raises(ValueError, match="expected images, a vocabulary and a share"):
        fit_calibration(torch.zeros(images, D), torch.zeros(words, D), None, share)


def test_remove_offset_at_the_offset_gives_zero() -> None:
    offset = unit(1, D, seed=4)
    assert not remove_offset(offset, offset, 1).any()
    rows = unit(5, D, seed=5)
    torch.testing.assert_close(SpaceCalibration(torch.zeros(D), torch.zeros(D)).text(rows), rows)
