import numpy as np
import pytest
import torch
from hypothesis import given
from scipy.sparse.linalg import cg

from clips4.inference.refine.lposs import (
    MAX_POSITIONS,
    PAPER,
    Propagation,
    graph,
    own_features,
    propagate,
    propagate_over,
)
from tests.helpers import generator, provable, seeds, unit
from tests.reference import lposs as reference

CASES = [Propagation(0.95, 400, 3.0, 0.01), Propagation(0.8, 4, 1.0, 0.0), Propagation(0.99, 1, 2.0, 0.1)]


def features_of(height: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return unit(6, height, width, seed=seed, dim=0, dtype=dtype)


def scores_of(classes: int, height: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(classes, height, width, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("propagation", CASES)
def test_graph_equals_the_literal_version(propagation: Propagation) -> None:
    features = features_of(4, 5)
    wanted = reference.graph(features.numpy(), propagation.neighbors, propagation.gamma, propagation.sigma)
    np.testing.assert_allclose(graph(features, propagation).numpy(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("propagation", CASES)
def test_propagate_equals_the_literal_inverse_divided_by_that_of_one(propagation: Propagation) -> None:
    features, scores = features_of(4, 5), scores_of(3, 4, 5)
    alpha, k, gamma, sigma = (getattr(propagation, n) for n in ("alpha", "neighbors", "gamma", "sigma"))
    normalized = reference.graph(features.numpy(), k, gamma, sigma)
    wanted = reference.propagate(scores.numpy(), normalized, alpha)
    ours = propagate(scores, features, propagation).numpy()
    of_one = reference.propagate(np.ones((1, 4, 5)), normalized, alpha)
    np.testing.assert_allclose(ours, wanted / of_one, rtol=0, atol=2e-5)
    # the division is by position: no position's class changes
    np.testing.assert_array_equal(ours.argmax(0), wanted.argmax(0))


def test_propagate_equals_conjugate_gradients() -> None:
    features, scores = features_of(8, 9), scores_of(1, 8, 9)
    matrix = np.eye(72) - PAPER.alpha * graph(features).double().numpy()
    spread, one = (cg(matrix, wanted, rtol=1e-10)[0] for wanted in (scores.numpy().ravel(), np.ones(72)))
    np.testing.assert_allclose(propagate(scores, features).numpy().ravel(), spread / one, rtol=0, atol=1e-4)


@provable
@given(seeds)
def test_graph_is_symmetric_with_eigenvalues_in_the_unit_interval(seed: int) -> None:
    normalized = graph(features_of(3, 4, seed), Propagation(neighbors=3)).double()
    assert torch.equal(normalized, normalized.T)
    assert normalized.diagonal().eq(0).all()
    assert torch.linalg.eigvalsh(normalized).abs().max() <= 1 + 1e-6


@provable
@given(seeds)
def test_propagate_is_linear_and_keeps_constants_and_the_range(seed: int) -> None:
    features, scores = features_of(4, 3, seed), scores_of(2, 4, 3, seed + 1)
    spread = propagate(scores, features)
    torch.testing.assert_close(propagate(2 * scores + 5, features), 2 * spread + 5, rtol=0, atol=1e-4)
    constant = torch.full((1, 4, 3), 0.3, dtype=torch.float64)
    torch.testing.assert_close(propagate(constant, features), constant, rtol=0, atol=1e-6)
    assert (spread.amax((1, 2)) <= scores.amax((1, 2)) + 1e-6).all()
    assert (spread.amin((1, 2)) >= scores.amin((1, 2)) - 1e-6).all()


@pytest.mark.parametrize("alone", [features_of(1, 1), torch.tensor([[[1.0, -1.0]]])], ids=["one position", "opposite"])
def test_propagate_without_edges_changes_nothing(alone: torch.Tensor) -> None:
    scores = scores_of(3, *alone.shape[1:])
    torch.testing.assert_close(propagate(scores, alone), scores, rtol=0, atol=1e-6)


def test_propagate_without_alpha_changes_nothing() -> None:
    scores = scores_of(3, 4, 5)
    torch.testing.assert_close(propagate(scores, features_of(4, 5), Propagation(alpha=0)), scores, rtol=0, atol=1e-6)


def test_propagate_removes_noise_within_what_looks_alike() -> None:
    """Two halves that look different; a quarter of the positions has the other half's class."""
    right = (torch.arange(12) >= 6).long().expand(9, 12)
    features = torch.nn.functional.one_hot(right, 2).movedim(-1, 0) + 0.3 * scores_of(2, 9, 12)
    features = torch.nn.functional.normalize(features, dim=0)
    noisy = torch.where(torch.rand(9, 12, generator=generator(3)) < 0.25, 1 - right, right)
    scores = torch.nn.functional.one_hot(noisy, 2).movedim(-1, 0).float()
    assert (noisy != right).float().mean() > 0.2
    assert (propagate(scores, features).argmax(0) != right).float().mean() < 0.02


def test_propagate_takes_features_of_another_grid() -> None:
    scores = scores_of(2, 6, 8)
    for grid in ((6, 8), (12, 16), (3, 4), (7, 5)):
        spread = propagate(scores, features_of(*grid))
        assert spread.shape == scores.shape
        assert not torch.allclose(spread, scores)


def test_propagate_large_map_is_averaged_down() -> None:
    scores = scores_of(1, 10, 500)
    spread = propagate(scores, features_of(10, 500))
    assert spread.shape[1] * spread.shape[2] <= MAX_POSITIONS
    assert spread.dtype == scores.dtype


def test_own_features_ignore_a_common_offset_and_scale() -> None:
    z = features_of(5, 6, dtype=torch.float32)
    moved = 0.2 * z + scores_of(6, 1, 1).float()
    torch.testing.assert_close(own_features(moved), own_features(z), rtol=0, atol=1e-3)
    torch.testing.assert_close(own_features(z).norm(dim=0), torch.ones(5, 6))
    assert own_features(torch.ones(3, 2, 2)).eq(0).all()


def test_propagate_over_takes_the_proxys_features_where_there_are_some() -> None:
    scores, z, others = scores_of(2, 4, 5), features_of(4, 5), features_of(4, 5, seed=7)
    assert torch.equal(propagate_over(scores, z), propagate(scores, own_features(z)))
    assert torch.equal(propagate_over(scores, z, others), propagate(scores, others))


@pytest.mark.parametrize("wrong", [{"alpha": 1.0}, {"alpha": -0.1}, {"neighbors": 0}, {"gamma": 0.0}, {"sigma": -1.0}])
def test_propagation_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"alpha is in \[0, 1\)"):
        Propagation(**wrong)  # type: ignore[arg-type]
