import math
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from clips4.data.label_maps import IGNORED
from clips4.method.losses.contrastive import MATRICES, pixel_segment_contrast
from clips4.method.losses.reduction import Reduction
from tests.helpers import generator, provable, rotation, same_gradients, seeds, unit
from tests.reference import losses as reference


class Case(NamedTuple):
    """Region 0 has three segments, region 1 two, regions 2 and 3 one each (as one that only one view sees)."""

    z: Tensor
    pixel_region: Tensor
    pixel_segment: Tensor
    v: Tensor
    segment_region: Tensor


def make_case(seed: int = 0, ignored: int = 0, pixels: int = 14) -> Case:
    segment_region = torch.tensor([0, 1, 0, 2, 1, 0, 3])
    pixel_segment = torch.randint(7, (pixels,), generator=generator(seed))
    pixel_region = segment_region[pixel_segment]
    pixel_segment[:ignored] = IGNORED
    pixel_region[:ignored] = IGNORED
    return Case(unit(pixels, 5, seed=seed), pixel_region, pixel_segment, unit(7, 5, seed=seed + 1), segment_region)


class Sizes(TorchFunctionMode):
    """Notes the shape of every matrix that a call to torch returns."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.ndim == 2:
            self.seen.append((result.shape[0], result.shape[1]))
        return result


# regions 0 and 1 share a class in part, so do 1 and 3; one segment of region 0 is of a class of its own
CLASSES = torch.tensor([4, 4, 2, 2, 7, 9, 7])


def each(case: Case, kappa: float = 8.0, exclude_own: bool = False, segment_class: Tensor | None = None) -> Tensor:
    return pixel_segment_contrast(*case, kappa, exclude_own, "none", segment_class=segment_class)


# ------------------------------------------------------------------------------------------------------- reference


@pytest.mark.parametrize("exclude_own", [False, True])
@pytest.mark.parametrize("ignored", [0, 4])
@pytest.mark.parametrize("kappa", [0.5, 10.0, 30.0])
def test_value_and_gradient_equal_the_reference(kappa: float, ignored: int, exclude_own: bool) -> None:
    case = make_case(3, ignored)
    rest = (case.pixel_region, case.pixel_segment)
    same_gradients(
        lambda z, v: pixel_segment_contrast(z, *rest, v, case.segment_region, kappa, exclude_own),
        lambda z, v: reference.pixel_segment_contrast(z, *rest, v, case.segment_region, kappa, exclude_own).mean(),
        case.z,
        case.v,
    )


@provable
@given(seeds, st.booleans())
def test_each_pixel_equals_the_reference(seed: int, exclude_own: bool) -> None:
    case = make_case(seed, ignored=seed % 5)
    expected = reference.pixel_segment_contrast(*case, 8.0, exclude_own)
    torch.testing.assert_close(each(case, 8.0, exclude_own), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("exclude_own", [False, True])
def test_contrast_double_precision_passes_gradcheck(exclude_own: bool) -> None:
    case = make_case(1, ignored=1, pixels=6)
    inputs = (case.z.requires_grad_(), case.v.requires_grad_())
    rest = (case.pixel_region, case.pixel_segment)
    assert torch.autograd.gradcheck(
        lambda z, v: pixel_segment_contrast(z, *rest, v, case.segment_region, 5.0, exclude_own), inputs
    )


# ---------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("exclude_own", [False, True])
def test_one_segment_costs_nothing_and_pulls_nowhere(exclude_own: bool) -> None:
    z, v = unit(5, 3).requires_grad_(), unit(1, 3, seed=1).requires_grad_()
    zeros = torch.zeros(5, dtype=torch.int64)
    loss = pixel_segment_contrast(z, zeros, zeros, v, zeros[:1], 10.0, exclude_own)
    assert loss.item() == 0
    assert all(gradient.abs().max() < 1e-12 for gradient in torch.autograd.grad(loss, (z, v)))


@pytest.mark.parametrize("exclude_own", [False, True])
@pytest.mark.parametrize("kappa", [0.1, 1.0, 10.0])
def test_two_orthogonal_segments_in_two_regions(kappa: float, exclude_own: bool) -> None:
    eye, number = torch.eye(2, dtype=torch.float64), torch.arange(2)
    loss = pixel_segment_contrast(eye, number, number, eye, number, kappa, exclude_own)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-kappa)), rel=1e-12)


def test_one_region_costs_nothing_whatever_its_segments() -> None:
    case = make_case()
    flat = case._replace(pixel_region=case.pixel_region * 0, segment_region=case.segment_region * 0)
    assert each(flat).abs().max() < 1e-12


def test_pixel_orthogonal_to_all_segments_counts_them() -> None:
    z = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    v = torch.cat([unit(6, 2), torch.zeros(6, 1, dtype=torch.float64)], 1)
    region = torch.tensor([0, 0, 1, 1, 2, 3])
    first = torch.zeros(1, dtype=torch.int64)
    assert pixel_segment_contrast(z, first, first, v, region, 10.0).item() == pytest.approx(math.log(6 / 2))
    assert pixel_segment_contrast(z, first, first, v, region, 10.0, True).item() == pytest.approx(math.log(5 / 1))


def test_own_segment_leaves_numerator_and_denominator() -> None:
    v = torch.eye(3, dtype=torch.float64)  # segments 0 and 1 in the pixel's region, 2 in another
    region, first, kappa = torch.tensor([0, 0, 1]), torch.zeros(1, dtype=torch.int64), 4.0
    whole = pixel_segment_contrast(v[:1], first, first, v, region, kappa)
    without = pixel_segment_contrast(v[:1], first, first, v, region, kappa, exclude_own=True)
    assert whole.item() == pytest.approx(math.log((math.exp(kappa) + 2) / (math.exp(kappa) + 1)))
    assert without.item() == pytest.approx(math.log(2))


def test_region_seen_in_one_view_only_keeps_its_own_segment() -> None:
    case = make_case(2)
    alone = case.pixel_region >= 2
    assert alone.any()
    torch.testing.assert_close(each(case, exclude_own=True)[alone], each(case)[alone], rtol=0, atol=0)


def test_loss_falls_when_the_pixel_moves_to_its_segment() -> None:
    eye, number = torch.eye(2, dtype=torch.float64), torch.arange(2)
    z = torch.full((2, 2), 0.5**0.5, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(pixel_segment_contrast(z, number, number, eye, number, 5.0), z)
    assert (gradient.diagonal() < 0).all()
    assert (gradient.fliplr().diagonal() > 0).all()


# ------------------------------------------------------------------------------------------- segments of one class


@pytest.mark.parametrize("exclude_own", [False, True])
@pytest.mark.parametrize("budget", [1, 1000, 2**30])
def test_what_is_of_one_class_is_not_held_apart(budget: int, exclude_own: bool) -> None:
    case = make_case(6, ignored=3, pixels=30)
    rest = (case.pixel_region, case.pixel_segment)

    def ours(z: Tensor, v: Tensor) -> Tensor:
        return pixel_segment_contrast(
            z, *rest, v, case.segment_region, 8.0, exclude_own, budget=budget, segment_class=CLASSES
        )

    def literal(z: Tensor, v: Tensor) -> Tensor:
        return reference.pixel_segment_contrast(z, *rest, v, case.segment_region, 8.0, exclude_own, CLASSES).mean()

    same_gradients(ours, literal, case.z, case.v)
    assert not torch.isclose(ours(case.z, case.v), each(case, 8.0, exclude_own).mean())


@provable
@given(seeds, st.booleans())
def test_each_pixel_with_classes_equals_the_reference(seed: int, exclude_own: bool) -> None:
    case = make_case(seed, ignored=seed % 5)
    expected = reference.pixel_segment_contrast(*case, 8.0, exclude_own, CLASSES)
    torch.testing.assert_close(each(case, 8.0, exclude_own, CLASSES), expected, rtol=0, atol=1e-10)


@provable
@given(seeds, st.booleans())
def test_classes_that_are_all_unlike_change_nothing(seed: int, exclude_own: bool) -> None:
    case = make_case(seed, ignored=2)
    apart = each(case, 8.0, exclude_own, torch.arange(7))
    torch.testing.assert_close(apart, each(case, 8.0, exclude_own), rtol=0, atol=0)


@pytest.mark.parametrize("exclude_own", [False, True])
def test_one_class_for_all_leaves_nothing_to_contrast(exclude_own: bool) -> None:
    assert each(make_case(), 8.0, exclude_own, torch.zeros(7, dtype=torch.int64)).abs().max() < 1e-12


@provable
@given(seeds)
def test_sparing_never_makes_the_loss_larger(seed: int) -> None:
    case = make_case(seed)
    assert (each(case, segment_class=CLASSES) <= each(case) + 1e-12).all()


def test_contrast_with_classes_passes_gradcheck() -> None:
    case = make_case(1, ignored=1, pixels=6)
    rest = (case.pixel_region, case.pixel_segment)
    assert torch.autograd.gradcheck(
        lambda z, v: pixel_segment_contrast(z, *rest, v, case.segment_region, 5.0, segment_class=CLASSES),
        (case.z.requires_grad_(), case.v.requires_grad_()),
    )


def test_classes_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"segment_class \(7,\), got \(6,\)"):
        each(make_case(), segment_class=CLASSES[:6])


# ----------------------------------------------------------------------------------------------------- invariances


@provable
@given(seeds, st.booleans())
def test_order_of_pixels_does_not_matter(seed: int, exclude_own: bool) -> None:
    case = make_case(seed, ignored=2)
    order = torch.randperm(len(case.z), generator=generator(seed))
    shuffled = case._replace(
        z=case.z[order], pixel_region=case.pixel_region[order], pixel_segment=case.pixel_segment[order]
    )
    ours, theirs = (pixel_segment_contrast(*c, 8.0, exclude_own) for c in (case, shuffled))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@provable
@given(seeds, st.booleans())
def test_numbers_of_segments_do_not_matter(seed: int, exclude_own: bool) -> None:
    case = make_case(seed, ignored=2)
    order = torch.randperm(7, generator=generator(seed))
    renumbered = torch.where(case.pixel_segment == IGNORED, IGNORED, order.argsort()[case.pixel_segment])
    shuffled = case._replace(pixel_segment=renumbered, v=case.v[order], segment_region=case.segment_region[order])
    torch.testing.assert_close(each(shuffled, 8.0, exclude_own), each(case, 8.0, exclude_own), rtol=0, atol=1e-12)


@provable
@given(seeds, st.booleans())
def test_numbers_of_regions_do_not_matter(seed: int, exclude_own: bool) -> None:
    case = make_case(seed)
    number = torch.randperm(1000, generator=generator(seed))[:4]
    renumbered = case._replace(pixel_region=number[case.pixel_region], segment_region=number[case.segment_region])
    assert torch.equal(each(renumbered, 8.0, exclude_own), each(case, 8.0, exclude_own))


@provable
@given(seeds, st.booleans())
def test_axes_of_the_embedding_space_do_not_matter(seed: int, exclude_own: bool) -> None:
    case, turn = make_case(seed), rotation(5, seed)
    rotated = case._replace(z=case.z @ turn, v=case.v @ turn)
    torch.testing.assert_close(each(rotated, 8.0, exclude_own), each(case, 8.0, exclude_own), rtol=0, atol=1e-11)


@provable
@given(seeds, st.floats(0.1, 50))
def test_loss_is_never_negative(seed: int, kappa: float) -> None:
    assert each(make_case(seed), kappa).min() >= 0


# ------------------------------------------------------------------------------------------------------- odd cases


def test_ignored_pixels_count_nowhere_and_get_no_gradient() -> None:
    case = make_case(5, ignored=4)
    without = case._replace(z=case.z[4:], pixel_region=case.pixel_region[4:], pixel_segment=case.pixel_segment[4:])
    z = case.z.clone().requires_grad_()
    loss = pixel_segment_contrast(z, *case[1:], 8.0)
    torch.testing.assert_close(loss.detach(), pixel_segment_contrast(*without, 8.0), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(loss, z)
    assert gradient[:4].eq(0).all()
    assert gradient[4:].ne(0).all()
    assert len(each(case)) == len(case.z) - 4


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_nothing_that_counts_gives_zero_with_a_zero_gradient(reduction: Reduction) -> None:
    case = make_case(ignored=14)
    z = case.z.clone().requires_grad_()
    loss = pixel_segment_contrast(z, *case[1:], 8.0, reduction=reduction)
    assert loss.item() == 0
    assert torch.autograd.grad(loss, z)[0].eq(0).all()


def test_no_segment_at_all() -> None:
    ignored = torch.full((3,), IGNORED)
    z = unit(3, 4).requires_grad_()
    loss = pixel_segment_contrast(z, ignored, ignored, torch.zeros(0, 4, dtype=torch.float64), ignored[:0], 8.0)
    assert loss.item() == 0


@pytest.mark.parametrize("exclude_own", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_at_kappa_100_is_finite(dtype: torch.dtype, exclude_own: bool) -> None:
    case = make_case(7)
    z, v = (x.to(dtype).requires_grad_() for x in (case.z, case.v))
    rest = (case.pixel_region, case.pixel_segment)
    loss = pixel_segment_contrast(z, *rest, v, case.segment_region, 100.0, exclude_own)
    exact = pixel_segment_contrast(*case, 100.0, exclude_own)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, (z, v)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_single_and_double_precision(dtype: torch.dtype) -> None:
    case = make_case()
    loss = pixel_segment_contrast(
        case.z.to(dtype), case.pixel_region, case.pixel_segment, case.v.to(dtype), case.segment_region, 8.0
    )
    assert loss.dtype == dtype


# ---------------------------------------------------------------------------------------------- shapes, exceptions


def test_contrast_sum_and_mean_agree_with_none() -> None:
    case = make_case(ignored=3)
    every = each(case)
    assert every.shape == (11,)
    assert pixel_segment_contrast(*case, 8.0, reduction="sum").item() == pytest.approx(every.sum().item())
    assert pixel_segment_contrast(*case, 8.0).item() == pytest.approx(every.mean().item())
    assert pixel_segment_contrast(*case, 8.0).shape == ()


def test_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction"):
        pixel_segment_contrast(*make_case(), 8.0, reduction="median")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("z", (14, 4)),
        ("z", (14, 5, 1)),
        ("v", (7,)),
        ("v", (7, 4)),
        ("v", (6, 5)),
        ("pixel_region", (13,)),
        ("pixel_segment", (14, 1)),
        ("segment_region", (8,)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(field: str, shape: tuple[int, ...]) -> None:
    case = make_case()
    wrong = torch.zeros(shape, dtype=getattr(case, field).dtype)
    with pytest.raises(ValueError, match=r"expected .* got"):
        pixel_segment_contrast(*case._replace(**{field: wrong}), 8.0)


# ---------------------------------------------------------------------------------------------------------- blocks


@pytest.mark.parametrize("exclude_own", [False, True])
@pytest.mark.parametrize("budget", [1, 500, 1000, 2**30])
def test_blocks_of_any_size_give_the_same(budget: int, exclude_own: bool) -> None:
    case = make_case(4, ignored=3, pixels=40)
    rest = (case.pixel_region, case.pixel_segment)
    same_gradients(
        lambda z, v: pixel_segment_contrast(z, *rest, v, case.segment_region, 8.0, exclude_own, budget=budget),
        lambda z, v: pixel_segment_contrast(z, *rest, v, case.segment_region, 8.0, exclude_own, "none").mean(),
        case.z,
        case.v,
    )


@pytest.mark.parametrize("budget", [1, 5000, 15000])
def test_no_block_is_larger_than_the_budget(budget: int) -> None:
    case, watch = make_case(4, pixels=100), Sizes()
    with watch:
        pixel_segment_contrast(*case, 8.0, budget=budget)
    columns = len(case.v)
    blocks = [rows for rows, width in watch.seen if width == columns and (rows, width) != case.v.T.shape]
    assert max(blocks) * columns * MATRICES * 8 <= max(budget, MATRICES * columns * 8)
    assert len(blocks) > 1


def test_autocast_to_half_precision_changes_nothing() -> None:
    case = make_case(5, pixels=40)
    inputs = [case.z.float().requires_grad_(), case.v.float().requires_grad_()]

    def run() -> tuple[Tensor, ...]:
        loss = pixel_segment_contrast(
            inputs[0], case.pixel_region, case.pixel_segment, inputs[1], case.segment_region, 100.0
        )
        return (loss, *torch.autograd.grad(loss, inputs))

    expected = run()
    with torch.autocast("cpu", dtype=torch.float16):
        got = run()
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
