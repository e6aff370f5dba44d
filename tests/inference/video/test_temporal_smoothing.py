"""Embeddings averaged along propagated positions: the formula, what it does to noise, to motion and to cuts."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.video.temporal_smoothing import Steadiness, SteadyEmbeddings, flicker
from tests.helpers import provable, seeds, unit
from tests.reference import propagation as literal


def by_the_formula(frames: list[Tensor], how: Steadiness) -> list[Tensor]:
    """As the module's docstring says, by the literal propagation."""
    found = [frames[0]]
    for before, z in pairwise(frames):
        moved_z = torch.tensor(literal.propagate(z, [before], [before], how.radius, 5, 0.1), dtype=z.dtype)
        moved_y = torch.tensor(literal.propagate(z, [before], [found[-1]], how.radius, 5, 0.1), dtype=z.dtype)
        likeness = (F.normalize(moved_z, dim=0) * z).sum(0)
        gate = how.weight * ((likeness - how.low) / (1 - how.low)).clamp(0, 1)
        found.append(F.normalize((1 - gate) * z + gate * moved_y, dim=0))
    return found


@provable
@given(seeds, st.sampled_from([(5, 7), (4, 13)]), st.integers(0, 2), st.sampled_from([0.0, 0.5, 0.9]))
def test_steady_embeddings_equal_the_formula(seed: int, size: tuple[int, int], radius: int, weight: float) -> None:
    base = unit(4, *size, seed=seed, dim=0)
    frames = [F.normalize(base + 0.4 * unit(4, *size, seed=seed + i, dim=0), dim=0) for i in range(1, 4)]
    how = Steadiness(weight, radius, 0.2)
    steady = SteadyEmbeddings(how)
    for z, expected in zip(frames, by_the_formula(frames, how), strict=True):
        torch.testing.assert_close(steady(z), expected, rtol=0, atol=1e-10)


def labels_of(z: Tensor) -> np.ndarray:
    return z.argmax(0).numpy()


def scene(shift: int, noise: float, seed: int) -> Tensor:
    """Two classes, divided by a line that moves, and noise."""
    z = torch.zeros(8, 20, 30)
    z[0, :, : 12 + shift], z[1, :, 12 + shift :] = 1, 1
    return F.normalize(z + noise * torch.randn(8, 20, 30, generator=torch.Generator().manual_seed(seed)), dim=0)


def test_steady_embeddings_reduce_noise_and_follow_motion() -> None:
    frames = [scene(t, 0.45, t) for t in range(8)]
    steady = SteadyEmbeddings(Steadiness(0.8, 2, 0.0))
    after = [steady(z) for z in frames]

    def changes(maps: list[Tensor]) -> float:
        return float(np.mean([flicker(labels_of(a), labels_of(b)) for a, b in pairwise(maps)]))

    def errors(maps: list[Tensor]) -> float:
        truths = [labels_of(scene(t, 0, 0)) for t in range(8)]
        return float(np.mean([flicker(truth, labels_of(z)) for truth, z in zip(truths, maps, strict=True)]))

    assert changes(after) < 0.5 * changes(frames)
    assert errors(after) < 0.6 * errors(frames)


def test_steady_embeddings_after_a_cut_are_unchanged() -> None:
    steady = SteadyEmbeddings(Steadiness(0.8, 2, 0.5))
    steady(unit(512, 10, 12, seed=1, dim=0))
    other = unit(512, 10, 12, seed=2, dim=0)  # random directions in 512 dimensions: far from all before
    torch.testing.assert_close(steady(other), other, rtol=0, atol=1e-12)


def test_steady_embeddings_new_size_or_zero_weight_changes_nothing() -> None:
    steady, still = SteadyEmbeddings(), SteadyEmbeddings(Steadiness(0))
    for size in ((6, 8), (8, 6)):
        z = unit(4, *size, seed=3, dim=0)
        assert torch.equal(steady(z), z)
        assert torch.equal(still(z), z)
    z = unit(4, 8, 6, seed=4, dim=0)
    assert torch.equal(still(z), z)
    torch.testing.assert_close(steady(z).norm(dim=0), torch.ones(8, 6, dtype=torch.float64))


def test_flicker_is_the_share_of_changed_pixels() -> None:
    assert flicker(np.array([[0, 1], [2, -1]]), np.array([[0, 1], [1, 0]])) == 0.5


@pytest.mark.parametrize("wrong", [{"weight": 1.0}, {"weight": -0.1}, {"radius": -1}, {"low": 1.0}])
def test_steadiness_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="give a weight of 0 to below 1"):
        Steadiness(**wrong)  # type: ignore[arg-type]
