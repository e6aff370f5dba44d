"""Spherical k-means over a whole set."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.method.minibatch_kmeans import fit_minibatch_kmeans, kmeans_plus_plus, nearest_center, sample_rows
from tests.helpers import generator, unit


def bunches(count: int, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows around k orthogonal directions, and the direction of each."""
    labels = torch.arange(count) % k
    noise = 0.1 * torch.randn(count, 8, generator=generator(seed))
    return F.normalize(torch.eye(8)[labels] + noise, dim=1), labels


def test_minibatch_kmeans_separate_bunches_are_found() -> None:
    rows, labels = bunches(600, 5, 0)
    centers = fit_minibatch_kmeans(rows, 5, generator(1), batch=64)
    torch.testing.assert_close(centers.norm(dim=1), torch.ones(5))
    found = torch.cat([index for _, index in nearest_center(rows, centers)])
    for label in range(5):
        assert len(found[labels == label].unique()) == 1


def test_same_seed_gives_the_same_centers_and_length_does_not_count() -> None:
    rows, _ = bunches(200, 4, 2)
    one, two = (fit_minibatch_kmeans(rows, 4, generator(3), restarts=2) for _ in range(2))
    assert torch.equal(one, two)
    longer = fit_minibatch_kmeans(rows * 3.5, 4, generator(3), restarts=2)
    torch.testing.assert_close(one, longer)


def test_of_the_restarts_the_best_is_kept() -> None:
    rows = unit(400, 6, dtype=torch.float32)

    def score(restarts: int) -> float:
        centers = fit_minibatch_kmeans(rows, 12, generator(4), restarts=restarts, epochs=1, refine=2)
        return float((rows @ centers.T).amax(1).mean())

    assert score(6) >= score(1)


def test_no_cluster_is_empty_where_rows_are_few() -> None:
    rows, _ = bunches(8, 8, 5)
    centers = fit_minibatch_kmeans(rows, 8, generator(0))
    assert len(torch.cat([index for _, index in nearest_center(rows, centers)]).unique()) == 8
    with pytest.raises(ValueError, match="8 pixels cannot make 9"):
        fit_minibatch_kmeans(rows, 9, generator(0))


def test_plus_plus_draws_different_rows() -> None:
    rows, labels = bunches(100, 5, 6)
    chosen = kmeans_plus_plus(rows, 5, generator(0))
    assert len({int((rows @ row).argmax()) for row in chosen}) == 5
    assert kmeans_plus_plus(torch.ones(4, 3) / 3**0.5, 3, generator(0)).shape == (3, 3), "all alike"
    assert len(labels) == 100


def test_samples_are_even_and_bounded() -> None:
    maps = [torch.full((2, 5, 7), float(index)) for index in range(4)]
    rows = sample_rows(iter(maps), 4, 40, generator(0))
    assert rows.shape == (40, 2)
    assert torch.bincount(rows[:, 0].long()).tolist() == [10] * 4
    with pytest.raises(ValueError, match="no map"):
        sample_rows([], 0, 4, generator(0))
