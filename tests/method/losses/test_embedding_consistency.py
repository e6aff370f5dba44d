import pytest
import torch
from hypothesis import given

from clips4.method.losses.embedding_consistency import embedding_consistency
from clips4.method.losses.reduction import Reduction
from tests.helpers import generator, provable, rotation, same_gradients, seeds, unit
from tests.reference import losses as reference


@provable
@given(seeds)
def test_value_and_gradient_equal_the_reference(seed: int) -> None:
    guidance = unit(6, 5, seed=seed + 1)
    same_gradients(
        lambda v: embedding_consistency(v, guidance),
        lambda v: reference.embedding_consistency(v, guidance).mean(),
        unit(6, 5, seed=seed),
    )


def test_embedding_consistency_double_precision_passes_gradcheck() -> None:
    guidance = unit(4, 3, seed=1)
    assert torch.autograd.gradcheck(lambda v: embedding_consistency(v, guidance), (unit(4, 3).requires_grad_(),))


def test_equal_orthogonal_and_opposite_vectors_cost_0_1_and_2() -> None:
    v = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    guidance = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    assert embedding_consistency(v, guidance, "none").tolist() == [0, 1, 2]


def test_is_half_the_squared_distance() -> None:
    v, guidance = unit(5, 4), unit(5, 4, seed=1)
    expected = (v - guidance).square().sum(1) / 2
    torch.testing.assert_close(embedding_consistency(v, guidance, "none"), expected, rtol=0, atol=1e-12)


def test_gradient_is_the_guidance_backwards() -> None:
    v, guidance = unit(5, 4).requires_grad_(), unit(5, 4, seed=1)
    (gradient,) = torch.autograd.grad(embedding_consistency(v, guidance), v)
    torch.testing.assert_close(gradient, -guidance / 5, rtol=0, atol=1e-12)


def test_guidance_gets_no_gradient() -> None:
    guidance = unit(3, 4).requires_grad_()
    embedding_consistency(unit(3, 4, seed=1).requires_grad_(), guidance).backward()
    assert guidance.grad is None


@provable
@given(seeds)
def test_axes_and_order_do_not_matter(seed: int) -> None:
    v, guidance, turn = unit(6, 4, seed=seed), unit(6, 4, seed=seed + 1), rotation(4, seed)
    order = torch.randperm(6, generator=generator(seed))
    changed = embedding_consistency((v @ turn)[order], (guidance @ turn)[order])
    torch.testing.assert_close(changed, embedding_consistency(v, guidance), rtol=0, atol=1e-12)


def test_embedding_consistency_one_equal_segment_is_zero() -> None:
    assert embedding_consistency(unit(1, 4), unit(1, 4)).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_segment_gives_zero_with_a_zero_gradient(reduction: Reduction) -> None:
    v = torch.zeros(0, 4, requires_grad=True)
    loss = embedding_consistency(v, torch.zeros(0, 4), reduction)
    loss.backward()
    assert loss.item() == 0


def test_embedding_consistency_reductions_agree() -> None:
    v, guidance = unit(5, 4), unit(5, 4, seed=1)
    every = embedding_consistency(v, guidance, "none")
    assert every.shape == (5,)
    assert embedding_consistency(v, guidance, "sum").item() == pytest.approx(every.sum().item())
    assert embedding_consistency(v, guidance).item() == pytest.approx(every.mean().item())


def test_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction"):
        embedding_consistency(unit(2, 3), unit(2, 3), "max")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_embedding_consistency_any_precision_keeps_its_type(dtype: torch.dtype) -> None:
    assert embedding_consistency(unit(2, 3, dtype=dtype), unit(2, 3, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize(("v", "guidance"), [((3, 4), (3, 5)), ((3, 4), (2, 4)), ((4,), (4,)), ((1, 3, 4), (1, 3, 4))])
def test_shapes_that_do_not_fit_are_refused(v: tuple[int, ...], guidance: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected v and guidance both \(S, D\)"):
        embedding_consistency(torch.ones(v), torch.ones(guidance))
