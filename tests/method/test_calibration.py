"""Invariance of the calibrated space, its round trip, and the margin of unknown."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clips4.config import ExtensionConfig, ObjectiveConfig, SegmentConfig
from clips4.method.calibration import (
    MeanPixel,
    SpaceCalibration,
    calibrate_space,
    pixel_spread,
    text_spread,
    unknown_margin,
)
from clips4.method.class_scores import assign
from clips4.method.objective import Terms, objective
from clips4.method.prototypes import known_prototypes
from clips4.method.segments import flatten_pixels
from tests.helpers import generator, provable, rotation, seeds, unit

D, K, IMAGES, SIDE = 16, 4, 4, 6


class Teacher:
    """Raw vectors of a teacher: maps (B, D, h, w), names and vocabulary."""

    def __init__(self, maps: Tensor, text: Tensor, vocabulary: Tensor):
        self.maps, self.text, self.vocabulary = maps, text, vocabulary


def plain(seed: int) -> Teacher:
    random, centers = generator(seed), unit(K, D, seed=seed)
    chosen = centers[torch.randint(K, (IMAGES, SIDE, SIDE), generator=random)].movedim(-1, 1)
    noise = torch.randn(chosen.shape, generator=random, dtype=torch.float64)
    text = centers + 0.4 * torch.randn(centers.shape, generator=random, dtype=torch.float64)
    return Teacher(F.normalize(chosen + 0.4 * noise, dim=1), F.normalize(text, dim=1), unit(100, D, seed=seed + 1))


def space_of(teacher: Teacher) -> SpaceCalibration:
    training, reference = MeanPixel(teacher.maps.shape[1]), MeanPixel(teacher.maps.shape[1])
    for number, each in enumerate(teacher.maps):
        training.add(each)
        if number < 2:
            reference.add(each)
    offsets = calibrate_space(training.result(), reference.result(), teacher.vocabulary)
    rows = flatten_pixels(offsets.calibrate_pixels(teacher.maps))
    image = torch.arange(IMAGES).repeat_interleave(SIDE * SIDE)
    spreads = pixel_spread(rows, image), text_spread(rows, offsets.calibrate_text(teacher.vocabulary))
    return calibrate_space(training.result(), reference.result(), teacher.vocabulary, spreads)


def run(teacher: Teacher, extensions: ExtensionConfig) -> tuple[Tensor, Terms, SpaceCalibration]:
    """y of every position, and the losses of a student that moves the calibrated map by one position."""
    space = space_of(teacher)
    maps, text = space.calibrate_pixels(teacher.maps), space.calibrate_text(teacher.text)
    rows = flatten_pixels(maps)
    prototypes = torch.cat([known_prototypes(text, rows, 4), rows[:3]])
    settings = space.scale_objective(ObjectiveConfig())
    terms = objective(
        F.normalize(maps.roll(1, 2) + 0.3 * maps, dim=1),
        torch.arange(IMAGES)[:, None, None].expand(-1, SIDE, SIDE).contiguous(),
        maps,
        prototypes,
        settings,
        SegmentConfig(clusters=4, iterations=3),
        text=text,
        extensions=extensions,
        text_temperature=space.text_temperature(ObjectiveConfig().temperature),
    )
    return assign(rows, prototypes), terms, space


def same(a: Teacher, b: Teacher, extensions: ExtensionConfig) -> None:
    (y, terms, space), (y_b, terms_b, space_b) = run(a, extensions), run(b, extensions)
    assert torch.equal(y, y_b)
    for first, second in zip(terms[:4], terms_b[:4], strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert space.pixel_spread == pytest.approx(space_b.pixel_spread, abs=1e-5)
    assert space.text_spread == pytest.approx(space_b.text_spread, abs=1e-5)


PAPER = ExtensionConfig()
OURS = ExtensionConfig(text_weight=1, context=1, exclude_same_class=True)


@provable
@given(seeds, st.floats(0.2, 20), st.floats(0.2, 20), st.floats(0, 5), st.floats(0, 5), st.booleans())
def test_calibration_of_any_offset_and_scale_changes_no_assignment_and_no_loss(
    seed: int, s: float, r: float, b: float, d: float, ours: bool
) -> None:
    teacher, offsets = plain(seed), torch.randn(2, D, generator=generator(seed + 2), dtype=torch.float64)
    turn = rotation(D, seed)
    maps = s * torch.einsum("bdhw,ed->behw", teacher.maps, turn) + b * offsets[0][:, None, None]
    text, vocabulary = (r * each @ turn.T + d * offsets[1] for each in (teacher.text, teacher.vocabulary))
    same(teacher, Teacher(maps, text, vocabulary), OURS if ours else PAPER)


@pytest.mark.parametrize("extensions", [PAPER, OURS])
@pytest.mark.parametrize("a", [0.1, 0.5, 2.0])
def test_calibration_of_clips_geometry_changes_no_assignment_and_no_loss(a: float, extensions: ExtensionConfig) -> None:
    teacher = plain(3)

    def text_side(rows: Tensor) -> Tensor:
        gap = rows.new_tensor([0.2, 0.98]).expand(len(rows), 2)
        return F.normalize(torch.cat([a * rows, gap], 1), dim=1)

    ones = torch.ones_like(teacher.maps[:, :1])
    maps = F.normalize(torch.cat([a * teacher.maps, ones, 0 * ones], 1), dim=1)
    same(teacher, Teacher(maps, text_side(teacher.text), text_side(teacher.vocabulary)), extensions)


def test_space_calibration_round_trip() -> None:
    space = SpaceCalibration(unit(D, dtype=torch.float32), unit(D, seed=1, dtype=torch.float32), 0.3, 0.2)
    back = SpaceCalibration.from_tensors(space.tensors())
    assert back is not None
    assert torch.equal(back.pixel_offset, space.pixel_offset)
    assert torch.equal(back.text_offset, space.text_offset)
    assert (back.pixel_spread, back.text_spread) == (0.3, 0.2)
    assert SpaceCalibration.from_tensors({}) is None
    with pytest.raises(KeyError):
        SpaceCalibration.from_tensors({"space.spreads": torch.zeros(2)})


def test_calibrate_pixels_at_the_offset_has_no_direction() -> None:
    offset = unit(D, dtype=torch.float32)
    assert not SpaceCalibration(offset, offset).calibrate_pixels(offset[:, None, None]).any()


def test_mean_pixel_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        MeanPixel(D).result()


@provable
@given(seeds, st.floats(0, 1))
def test_unknown_margin_holds_the_cap_and_is_the_smallest_that_does(seed: int, cap: float) -> None:
    gap = torch.randn(200, generator=generator(seed))
    margin = unknown_margin(gap, cap)
    assert cap == 1 or (gap.double() > margin).double().mean() <= cap
    if margin > 0:
        assert (gap.double() >= margin).double().mean() > cap


def test_unknown_margin_without_cap_is_zero() -> None:
    assert unknown_margin(torch.ones(5), 1.0) == 0
    assert unknown_margin(torch.ones(0), 0.1) == 0
