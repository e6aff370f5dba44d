import numpy as np
import pytest

from clips4.errors import UserError
from clips4.serve.runs import from_runs, to_runs


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 11)])
def test_runs_of_random_labels_give_them_back(shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(-3, 4, shape)
    runs = to_runs(labels)
    assert np.array_equal(from_runs(runs, shape), labels)
    assert all(a != b for a, b in zip(runs[::2], runs[2::2], strict=False))


@pytest.mark.parametrize("runs", [[0, 5], [0, 7], [0], [0, 7, 1, -1], [2**31, 6], []])
def test_runs_that_do_not_cover_the_size_raise(runs: list[int]) -> None:
    with pytest.raises(UserError, match="runs"):
        from_runs(runs, (2, 3))
