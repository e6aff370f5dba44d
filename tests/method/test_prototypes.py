import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from clips4.method.class_scores import assign
from clips4.method.prototypes import (
    exclusive_prototypes,
    known_prototypes,
    mixture_prototypes,
    sample_unknown,
    text_dimensions,
    update_unknown,
    with_text_prior,
)
from tests.helpers import generator, provable, rotation, seeds, unit
from tests.reference import prototypes as reference
from tests.reference import segments as reference_segments

# ----------------------------------------------------------------------------------------------------------- known


@provable
@given(seeds, st.integers(1, 12))
def test_known_prototypes_equal_the_reference(seed: int, m: int) -> None:
    text, segments = unit(4, 5, seed=seed), unit(9, 5, seed=seed + 1)
    expected = reference.known_prototypes(text, segments, m)
    torch.testing.assert_close(known_prototypes(text, segments, m), expected, rtol=0, atol=1e-10)


@provable
@given(seeds, st.integers(1, 12))
def test_nearest_prototypes_equal_the_reference(seed: int, m: int) -> None:
    text, segments = unit(4, 5, seed=seed), unit(9, 5, seed=seed + 1)
    found = known_prototypes(text, segments, m, per_class="nearest")
    expected = torch.cat(reference.nearest_prototypes(text, segments, m))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@provable
@given(seeds)
def test_nearest_of_one_segment_is_its_mean_bit_for_bit(seed: int) -> None:
    text, segments = unit(4, 5, seed=seed), unit(30, 5, seed=seed + 1)
    seen, sample = unit(30, 5, seed=seed + 2), segments[:20]
    for rows in (None, seen):
        mean, nearest = (known_prototypes(text, segments, 1, rows, per_class) for per_class in ("mean", "nearest"))
        assert torch.equal(nearest, mean)
    mean, nearest = (
        exclusive_prototypes(text, segments, 1, sample, seen, per_class=each) for each in ("mean", "nearest")
    )
    torch.testing.assert_close(nearest, mean, rtol=0, atol=1e-12)


@provable
@given(seeds, st.integers(1, 9))
def test_exclusive_prototypes_of_a_class_have_their_mean_where_none_repeats(seed: int, m: int) -> None:
    text, segments = unit(3, 5, seed=seed), unit(60, 5, seed=seed + 1)
    mean, nearest = (exclusive_prototypes(text, segments, m, segments, per_class=each) for each in ("mean", "nearest"))
    assert nearest.shape == (3 * m, 5)
    for rows, expected in zip(nearest.split(m), mean, strict=True):
        distinct = rows.unique(dim=0)  # a class with fewer than m segments repeats its nearest
        torch.testing.assert_close(F.normalize(distinct.sum(0), dim=0), expected, rtol=0, atol=1e-10)


def test_text_prior_moves_each_prototype_towards_its_own_name() -> None:
    text, rows = unit(2, 5), unit(6, 5, seed=1)
    moved = with_text_prior(rows, text, 0.5)
    for index in range(6):
        expected = reference_segments.unit_vector(rows[index] + 0.5 * text[index // 3])
        torch.testing.assert_close(moved[index], expected, rtol=0, atol=1e-12)


def test_one_segment_per_class_is_the_nearest() -> None:
    segments = torch.eye(3, dtype=torch.float64)
    text = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.2, 0.8]], dtype=torch.float64)
    assert torch.equal(known_prototypes(text, segments, 1), segments[1:])


def test_fewer_segments_than_m_gives_every_class_the_mean_of_all() -> None:
    segments = unit(3, 4)
    prototypes = known_prototypes(unit(2, 4, seed=1), segments, 100)
    mean = reference_segments.unit_vector(segments.sum(0))
    torch.testing.assert_close(prototypes, mean.expand(2, -1), rtol=0, atol=1e-12)


@provable
@given(seeds, st.integers(1, 12))
def test_how_sure_a_teacher_is_does_not_change_what_a_name_finds(seed: int, m: int) -> None:
    """Rows (c i, sqrt(1 - c^2)) with a c in (0, 1] of their own give the prototypes of i, with nothing in the last."""
    text, segments = unit(4, 5, seed=seed), unit(9, 5, seed=seed + 1)
    sure = 1 - 0.9 * torch.rand(9, 1, generator=generator(seed), dtype=torch.float64)
    unsure = torch.cat([sure * segments, (1 - sure**2).sqrt()], dim=1)
    found = known_prototypes(F.pad(text, (0, 1)), unsure, m)
    torch.testing.assert_close(found, F.pad(known_prototypes(text, segments, m), (0, 1)), rtol=0, atol=1e-10)
    seen = known_prototypes(F.pad(text, (0, 1)), unsure, m, unsure.flip(0))
    torch.testing.assert_close(
        seen, F.pad(known_prototypes(text, segments, m, segments.flip(0)), (0, 1)), rtol=0, atol=1e-10
    )


def test_dimensions_that_some_name_has_are_used() -> None:
    text = torch.tensor([[0.6, 0.8, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert text_dimensions(text).tolist() == [True, True, False, False]


@provable
@given(seeds)
def test_known_prototypes_turn_with_the_space_and_ignore_the_order_of_segments(seed: int) -> None:
    text, segments, turn = unit(4, 5, seed=seed), unit(9, 5, seed=seed + 1), rotation(5, seed)
    order = torch.randperm(9, generator=generator(seed))
    changed = known_prototypes(text @ turn, (segments @ turn)[order], 3)
    torch.testing.assert_close(changed, known_prototypes(text, segments, 3) @ turn, rtol=0, atol=1e-11)


def test_prototypes_get_no_gradient() -> None:
    text, segments = unit(2, 4).requires_grad_(), unit(5, 4, seed=1).requires_grad_()
    assert not known_prototypes(text, segments, 2).requires_grad
    assert not sample_unknown(segments, 2).requires_grad
    assert not update_unknown(segments, text, segments, 0.5).requires_grad


@pytest.mark.parametrize(
    ("text", "segments", "m"),
    [((2, 4), (5, 4), 0), ((2, 4), (5, 4), -1), ((2, 4), (0, 4), 1), ((2, 3), (5, 4), 1), ((4,), (5, 4), 1)],
)
def test_known_prototypes_refuse_what_does_not_fit(text: tuple[int, ...], segments: tuple[int, ...], m: int) -> None:
    with pytest.raises(ValueError, match="got"):
        known_prototypes(torch.ones(text), torch.ones(segments), m)


# --------------------------------------------------------------------------------------------------------- unknown


def test_unknown_prototypes_start_as_different_segments() -> None:
    segments = unit(20, 4)
    drawn = sample_unknown(segments, 8, generator(0))
    indices = [(segments == row).all(1).nonzero().item() for row in drawn]
    assert len(set(indices)) == 8


def test_unknown_prototypes_are_drawn_by_the_generator_alone() -> None:
    segments = unit(20, 4)
    torch.manual_seed(1)
    first = sample_unknown(segments, 8, generator(3))
    torch.manual_seed(2)
    assert torch.equal(sample_unknown(segments, 8, generator(3)), first)
    assert not torch.equal(sample_unknown(segments, 8, generator(4)), first)


@pytest.mark.parametrize(("asked", "given_"), [(0, 0), (3, 3), (5, 5), (9, 5)])
def test_no_more_unknown_prototypes_than_segments(asked: int, given_: int) -> None:
    assert sample_unknown(unit(5, 4), asked, generator(0)).shape == (given_, 4)


def test_unknown_prototypes_are_a_copy() -> None:
    segments = unit(5, 4)
    before = segments.clone()
    sample_unknown(segments, 5, generator(0)).zero_()
    assert torch.equal(segments, before)


# ---------------------------------------------------------------------------------------------------------- update


@provable
@given(seeds, st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_update_equals_the_reference(seed: int, step: float) -> None:
    unknown, known, guidance = unit(4, 5, seed=seed), unit(3, 5, seed=seed + 1), unit(12, 5, seed=seed + 2)
    expected = reference.update_unknown(unknown, known, guidance, step)
    torch.testing.assert_close(update_unknown(unknown, known, guidance, step), expected, rtol=0, atol=1e-10)


@provable
@given(seeds, st.floats(0, 1))
def test_update_never_moves_away_from_the_assigned_segments(seed: int, step: float) -> None:
    unknown, known, guidance = unit(4, 5, seed=seed), unit(3, 5, seed=seed + 1), unit(30, 5, seed=seed + 2)
    moved = update_unknown(unknown, known, guidance, step)
    labels = assign(guidance, torch.cat([known, unknown])) - 3
    for index in range(4):
        mine = guidance[labels == index]
        assert (mine @ moved[index]).sum() >= (mine @ unknown[index]).sum() - 1e-12
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(4, dtype=torch.float64))


def test_update_of_step_1_jumps_to_the_mean_of_its_segments() -> None:
    unknown, known = torch.eye(4, dtype=torch.float64)[:2], torch.eye(4, dtype=torch.float64)[2:]
    guidance = torch.tensor([[0.8, 0, 0.6, 0], [0.8, 0, 0, 0.6], [0, 0, 1, 0]], dtype=torch.float64)
    moved = update_unknown(unknown, known, guidance, 1.0)
    torch.testing.assert_close(moved[0], reference_segments.unit_vector(guidance[:2].sum(0)))
    assert torch.equal(moved[1], unknown[1])


def test_update_leaves_prototypes_without_segments_bit_for_bit() -> None:
    unknown, known = unit(4, 5, dtype=torch.float32), unit(3, 5, seed=1, dtype=torch.float32)
    assert torch.equal(update_unknown(unknown, known, known, 0.7), unknown)
    assert torch.equal(update_unknown(unknown, known, known[:0], 0.7), unknown)


@provable
@given(seeds, st.floats(0.01, 0.9))
def test_update_by_the_gradient_is_the_step_of_its_distance_and_points_where_the_mean_does(
    seed: int, step: float
) -> None:
    unknown, known, guidance = unit(3, 6, seed=seed), unit(2, 6, seed=seed + 1), unit(40, 6, seed=seed + 2)
    by_gradient = update_unknown(unknown, known, guidance, step, "gradient")
    by_mean = update_unknown(unknown, known, guidance, step)
    labels = assign(guidance, torch.cat([known, unknown])) - len(known)
    for index in range(len(unknown)):
        own = guidance[labels == index]
        if not len(own):
            assert torch.equal(by_gradient[index], unknown[index])
            continue
        c = unknown[index].clone().requires_grad_()
        distance = (1 - F.cosine_similarity(c[None], own)).mean()
        (gradient,) = torch.autograd.grad(distance, c)
        wanted = F.normalize(unknown[index] - step * gradient, dim=0)
        torch.testing.assert_close(by_gradient[index], wanted, rtol=0, atol=1e-10)
        # the closed form is the gradient step of half the squared distance
        (other,) = torch.autograd.grad((c - own).square().sum(1).mean() / 2, c)
        wanted = F.normalize(unknown[index] - step * other, dim=0)
        torch.testing.assert_close(by_mean[index], wanted, rtol=0, atol=1e-10)
        mean = own.mean(0)
        for moved in (by_gradient[index], by_mean[index]):
            assert moved @ mean >= unknown[index] @ mean - 1e-12, "the distance does not grow"
        assert by_gradient[index] @ unknown[index] >= by_mean[index] @ unknown[index] - 1e-12, "it turns less"
        # both turn c in the plane of c and the mean
        plane = torch.linalg.qr(torch.stack([unknown[index], mean], 1))[0]
        for moved in (by_gradient[index], by_mean[index]):
            torch.testing.assert_close(plane @ (plane.T @ moved), moved, rtol=0, atol=1e-10)


def test_segments_of_known_classes_move_nothing_even_where_an_unknown_is_next() -> None:
    known, unknown = unit(1, 4), unit(1, 4, seed=1)
    guidance = known.expand(5, -1)
    assert torch.equal(update_unknown(unknown, known, guidance, 1.0), unknown)
    torch.testing.assert_close(update_unknown(unknown, known[:0], guidance, 1.0), known)


def test_update_without_unknown_prototypes() -> None:
    assert update_unknown(torch.zeros(0, 4), torch.eye(4), torch.eye(4), 0.5).shape == (0, 4)


def test_update_leaves_its_inputs_alone() -> None:
    inputs = unit(4, 5), unit(3, 5, seed=1), unit(12, 5, seed=2)
    copies = [x.clone() for x in inputs]
    update_unknown(*inputs, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


def test_unknown_prototypes_can_be_kept_off_the_known_classes() -> None:
    segments, known = unit(40, 6), unit(3, 6, seed=1)
    nearness = (segments @ known.T).amax(1)
    drawn = sample_unknown(segments, 100, generator(0), known, share=0.25)
    farthest = segments[nearness.argsort()[:10]]
    assert {tuple(row) for row in drawn.tolist()} == {tuple(row) for row in farthest.tolist()}
    torch.testing.assert_close(
        sample_unknown(segments, 5, generator(0), known, share=1), sample_unknown(segments, 5, generator(0))
    )


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        sample_unknown(unit(4, 3), 2, known=unit(2, 3), share=share)


def test_share_below_1_needs_known_prototypes() -> None:
    with pytest.raises(ValueError, match="needs known prototypes"):
        sample_unknown(unit(4, 3), 2, share=0.5)


# --------------------------------------------------------------------------------------------------------- mixture


@provable
@given(seeds, st.booleans())
def test_round_of_the_mixture_equals_the_reference(seed: int, held: bool) -> None:
    prior = unit(3, 4, seed=seed + 2) if held else None
    z, start = unit(12, 4, seed=seed), unit(3, 4, seed=seed + 1)
    image = torch.randint(0, 3, (12,), generator=generator(seed))
    once = reference.mixture_round(z, start, image.tolist(), 0.2, prior)
    twice = reference.mixture_round(z, once, image.tolist(), 0.2, prior)
    for rounds, expected in enumerate([start, once, twice]):
        found = mixture_prototypes(start, z, image, 3, 0.2, rounds, prior)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@provable
@given(seeds)
def test_round_of_the_mixture_with_several_prototypes_equals_the_reference(seed: int) -> None:
    z, start, prior = unit(20, 4, seed=seed), unit(7, 4, seed=seed + 1), unit(7, 4, seed=seed + 2)
    image, groups = torch.randint(0, 3, (20,), generator=generator(seed)), torch.tensor([0, 0, 0, 1, 1, 1, 2])
    expected: list[torch.Tensor] = [start[:3], start[3:6], start[6:]]
    for rounds in range(3):
        found = mixture_prototypes(start, z, image, 3, 0.2, rounds, prior, groups=groups)
        torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-10)
        held = [prior[:3], prior[3:6], prior[6:]]
        expected = reference.mixture_round_of_several(z, expected, image.tolist(), 0.2, held)


def test_mixture_of_groups_of_one_is_the_mixture_bit_for_bit() -> None:
    z, start, image = unit(40, 4), unit(3, 4, seed=1), torch.arange(40) // 10
    plain, grouped = (mixture_prototypes(start, z, image, 4, 0.1, 3, groups=each) for each in (None, torch.arange(3)))
    assert torch.equal(grouped, plain)


def test_mixture_does_not_depend_on_the_order_of_pixels_nor_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    z, start = unit(40, 4), unit(3, 4, seed=1)
    image = torch.randint(0, 5, (40,), generator=generator(2))
    whole = mixture_prototypes(start, z, image, 5, 0.1, 3)
    order = torch.randperm(40, generator=generator(3))
    torch.testing.assert_close(mixture_prototypes(start, z[order], image[order], 5, 0.1, 3), whole)
    monkeypatch.setattr("clips4.method.prototypes.PIXEL_BLOCK", 7)
    torch.testing.assert_close(mixture_prototypes(start, z, image, 5, 0.1, 3), whole)


def test_mixture_finds_the_centers_that_pixels_were_drawn_around() -> None:
    centers = torch.eye(4, dtype=torch.float64)[:3]
    noise = 0.15 * torch.randn(300, 4, generator=generator(0), dtype=torch.float64)
    label = torch.arange(300) % 3
    z = torch.nn.functional.normalize(centers[label] + noise, dim=1)
    start = torch.nn.functional.normalize(centers + 0.4 * unit(3, 4, seed=1), dim=1)
    found = mixture_prototypes(start, z, torch.arange(300) // 30, 10, 0.05, 5)
    assert ((found * centers).sum(1) > 0.999).all()
    assert ((start * centers).sum(1) < 0.98).all()


def test_class_of_few_dimensions_is_fitted_in_them_alone() -> None:
    """What pixels have in another dimension neither enters the class nor, its prototype being 0 there, its share."""
    start = F.normalize(torch.tensor([[1.0, 0.2, 0.0], [0.0, 1.0, 0.0], [0.1, 0.1, 1.0]]), dim=1)
    z, rows = unit(40, 3).float(), torch.arange(40) // 10
    within = torch.tensor([[True, True, False], [True, True, False], [True, True, True]])
    found = mixture_prototypes(start, z, rows, 4, 0.3, 3, dimensions=within)
    assert not found[:2, 2].any()
    assert found[2, 2].abs() > 0
    # the first two among themselves: the same as of pixels that have no third dimension
    flat = z * torch.tensor([1.0, 1.0, 0.0])
    alone = mixture_prototypes(start[:2], z, rows, 4, 0.3, 3, dimensions=within[:2])
    torch.testing.assert_close(alone, mixture_prototypes(start[:2], flat, rows, 4, 0.3, 3))


def test_prior_keeps_a_class_at_home() -> None:
    """A class whose only pixels are another's is drawn to them, and with a prior no farther than half way."""
    center, start = torch.tensor([[1.0, 0.0]]), torch.eye(2)
    z = F.normalize(center + 0.05 * torch.randn(60, 2, generator=generator(0)), dim=1)
    rows = torch.zeros(60, dtype=torch.int64)
    free, held = (mixture_prototypes(start, z, rows, 1, 0.5, 5, prior) for prior in (None, start))
    assert free[1, 0] > 0.99
    assert 0.5 < held[1, 0] < 2**-0.5 + 0.01


def test_class_without_a_pixel_stays() -> None:
    start = torch.eye(3)
    found = mixture_prototypes(start, torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 1, 0.1, 2)
    assert torch.equal(found, start)


def test_text_prior_of_weight_zero_changes_nothing() -> None:
    prototypes = unit(3, 5, seed=1)
    assert with_text_prior(prototypes, unit(3, 5, seed=2), 0.0) is prototypes


def test_text_prior_of_weight_one_halves_the_angle() -> None:
    prototypes, text = unit(3, 5, seed=1), unit(3, 5, seed=2)
    mixed = with_text_prior(prototypes, text, 1.0)
    torch.testing.assert_close((mixed * prototypes).sum(1), (mixed * text).sum(1))
    torch.testing.assert_close(mixed.norm(dim=1), torch.ones_like(mixed[:, 0]))


def test_text_prior_of_great_weight_is_the_text() -> None:
    prototypes, text = unit(3, 5, seed=1), unit(3, 5, seed=2)
    torch.testing.assert_close(with_text_prior(prototypes, text, 1e6), text, atol=1e-5, rtol=0)
