import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from clips4.models.teachers.projection import fit_basis
from tests.helpers import provable, seeds, unit


@provable
@given(seeds, st.integers(1, 6), st.integers(6, 16))
def test_classes_see_no_difference(seed: int, classes: int, dims: int) -> None:
    text, samples = unit(classes, 16, seed=seed), unit(50, 16, seed=seed + 1)
    basis = fit_basis(text, samples, dims).double()
    assert basis.shape == (dims, 16)
    torch.testing.assert_close(basis @ basis.T, torch.eye(dims, dtype=torch.float64), rtol=0, atol=1e-5)
    x = unit(30, 16, seed=seed + 2)
    kept = x @ basis.T @ basis
    torch.testing.assert_close(kept @ text.T, x @ text.T, rtol=0, atol=1e-5)
    assert torch.equal((kept @ text.T).argmax(1), (x @ text.T).argmax(1))


def test_all_dimensions_lose_nothing() -> None:
    x = unit(30, 16, seed=2)
    basis = fit_basis(unit(3, 16), unit(50, 16, seed=1), 16).double()
    torch.testing.assert_close(x @ basis.T @ basis, x, rtol=0, atol=1e-5)


def test_besides_the_classes_the_samples_main_directions_are_kept() -> None:
    """Samples in a plane that the class is not in: two more dimensions lose nothing of them."""
    text = F.normalize(torch.eye(8, dtype=torch.float64)[:1])
    plane = torch.eye(8, dtype=torch.float64)[[3, 6]]
    samples = F.normalize(torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ plane)
    basis = fit_basis(text, samples, 3).double()
    torch.testing.assert_close(samples @ basis.T @ basis, samples, rtol=0, atol=1e-6)


def test_classes_of_one_direction_take_one_dimension() -> None:
    text = unit(1, 8).expand(4, 8)
    basis = fit_basis(text, unit(40, 8, seed=1), 5).double()
    torch.testing.assert_close(basis @ basis.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(text @ basis.T @ basis, text, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 9])
def test_too_few_or_too_many_dimensions_are_refused(dims: int) -> None:
    with pytest.raises(ValueError, match="dims is from K = 3 to D = 8"):
        fit_basis(unit(3, 8), unit(9, 8), dims)
