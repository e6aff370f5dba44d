import math

import pytest
import torch
from hypothesis import given

from clips4.method.losses.reduction import Reduction
from clips4.method.losses.semantic_consistency import semantic_consistency
from tests.helpers import generator, provable, rotation, same_gradients, seeds, unit
from tests.reference import losses as reference


@provable
@given(seeds)
def test_value_and_gradient_equal_the_reference(seed: int) -> None:
    guidance, prototypes = unit(6, 5, seed=seed + 1), unit(4, 5, seed=seed + 2)
    same_gradients(
        lambda v: semantic_consistency(v, guidance, prototypes, 0.1),
        lambda v: reference.semantic_consistency(v, guidance, prototypes, 0.1).mean(),
        unit(6, 5, seed=seed),
    )


def test_semantic_consistency_double_precision_passes_gradcheck() -> None:
    guidance, prototypes = unit(4, 3, seed=1), unit(5, 3, seed=2)
    assert torch.autograd.gradcheck(
        lambda v: semantic_consistency(v, guidance, prototypes, 0.5), (unit(4, 3).requires_grad_(),)
    )


GROUPS = torch.tensor([0, 0, 0, 1, 1, 2])  # classes of three, two and one prototypes


@provable
@given(seeds)
def test_value_and_gradient_of_several_prototypes_equal_the_reference(seed: int) -> None:
    guidance, rows = unit(6, 5, seed=seed + 1), unit(6, 5, seed=seed + 2)
    same_gradients(
        lambda v: semantic_consistency(v, guidance, rows, 0.1, groups=GROUPS),
        lambda v: reference.semantic_consistency(v, guidance, [rows[:3], rows[3:5], rows[5:]], 0.1).mean(),
        unit(6, 5, seed=seed),
    )


def test_semantic_consistency_of_several_prototypes_passes_gradcheck() -> None:
    guidance, rows = unit(4, 3, seed=1), unit(6, 3, seed=2)
    assert torch.autograd.gradcheck(
        lambda v: semantic_consistency(v, guidance, rows, 0.5, groups=GROUPS), (unit(4, 3).requires_grad_(),)
    )


def test_semantic_consistency_of_groups_of_one_is_the_same_bit_for_bit() -> None:
    v, guidance, rows = (unit(5, 4, seed=seed) for seed in range(3))
    plain, grouped = (semantic_consistency(v, guidance, rows, 0.1, groups=each) for each in (None, torch.arange(5)))
    assert torch.equal(grouped, plain)


def test_one_prototype_costs_nothing() -> None:
    assert semantic_consistency(unit(5, 4), unit(5, 4, seed=1), unit(1, 4, seed=2), 0.07).item() == 0


@pytest.mark.parametrize("tau", [0.07, 1.0])
def test_semantic_consistency_two_orthogonal_prototypes_has_closed_form(tau: float) -> None:
    eye = torch.eye(2, dtype=torch.float64)
    right = semantic_consistency(eye, eye, eye, tau).item()
    wrong = semantic_consistency(eye, eye.flip(0), eye, tau).item()
    assert right == pytest.approx(math.log(1 + math.exp(-1 / tau)), rel=1e-9)
    assert wrong == pytest.approx(1 / tau + math.log(1 + math.exp(-1 / tau)), rel=1e-9)


def test_segment_orthogonal_to_all_prototypes_costs_log_of_their_number() -> None:
    v = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    prototypes = torch.cat([unit(6, 2), torch.zeros(6, 1, dtype=torch.float64)], 1)
    loss = semantic_consistency(v, unit(1, 3), prototypes, 0.07)
    assert loss.item() == pytest.approx(math.log(6))


def test_all_segments_one_class() -> None:
    prototypes = unit(4, 5)
    guidance = prototypes[2].expand(6, -1)
    v = unit(6, 5, seed=1)
    expected = -(v @ prototypes.T / 0.2).log_softmax(1)[:, 2].mean()
    assert semantic_consistency(v, guidance, prototypes, 0.2).item() == pytest.approx(expected.item())


def test_only_the_students_vectors_get_a_gradient() -> None:
    v, guidance, prototypes = (unit(3, 4, seed=seed).requires_grad_() for seed in range(3))
    semantic_consistency(v, guidance, prototypes, 0.1).backward()
    assert v.grad is not None
    assert guidance.grad is None
    assert prototypes.grad is None


@provable
@given(seeds)
def test_axes_and_numbering_do_not_matter(seed: int) -> None:
    v, guidance, prototypes = unit(6, 4, seed=seed), unit(6, 4, seed=seed + 1), unit(5, 4, seed=seed + 2)
    turn, segment_order = rotation(4, seed), torch.randperm(6, generator=generator(seed))
    class_order = torch.randperm(5, generator=generator(seed))
    changed = semantic_consistency(
        (v @ turn)[segment_order], (guidance @ turn)[segment_order], (prototypes @ turn)[class_order], 0.1
    )
    torch.testing.assert_close(changed, semantic_consistency(v, guidance, prototypes, 0.1), rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_at_a_small_temperature_is_finite(dtype: torch.dtype) -> None:
    v, guidance, prototypes = (unit(8, 16, seed=seed, dtype=dtype) for seed in range(3))
    v.requires_grad_()
    loss = semantic_consistency(v, guidance, prototypes, 1e-5)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert torch.autograd.grad(loss, v)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_single_and_double_precision(dtype: torch.dtype) -> None:
    v, guidance, prototypes = (unit(3, 4, seed=seed, dtype=dtype) for seed in range(3))
    assert semantic_consistency(v, guidance, prototypes, 0.1).dtype == dtype


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_segment_gives_zero_with_a_zero_gradient(reduction: Reduction) -> None:
    v = torch.zeros(0, 4, requires_grad=True)
    loss = semantic_consistency(v, torch.zeros(0, 4), torch.eye(4), 0.1, reduction)
    loss.backward()
    assert loss.item() == 0


def test_semantic_consistency_reductions_agree() -> None:
    inputs = unit(5, 4), unit(5, 4, seed=1), unit(3, 4, seed=2)
    every = semantic_consistency(*inputs, 0.1, "none")
    assert every.shape == (5,)
    assert semantic_consistency(*inputs, 0.1, "sum").item() == pytest.approx(every.sum().item())
    assert semantic_consistency(*inputs, 0.1).item() == pytest.approx(every.mean().item())


def test_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction"):
        semantic_consistency(unit(2, 3), unit(2, 3), unit(2, 3), 0.1, "max")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("v", "guidance", "prototypes"),
    [
        ((3, 4), (3, 5), (2, 4)),
        ((3, 4), (2, 4), (2, 4)),
        ((4,), (4,), (2, 4)),
        ((3, 4), (3, 4), (2, 5)),
        ((3, 4), (3, 4), (4,)),
        ((3, 4), (3, 4), (0, 4)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    v: tuple[int, ...], guidance: tuple[int, ...], prototypes: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"expected .* got"):
        semantic_consistency(torch.ones(v), torch.ones(guidance), torch.ones(prototypes), 0.1)
