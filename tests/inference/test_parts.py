"""Parts of a prediction: their embeddings."""

from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clips4.inference.parts import pool_parts
from tests.helpers import generator, provable, seeds, unit


@provable
@given(seeds, st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), st.integers(1, 20))
def test_pool_parts_equals_the_sum_over_pixels(seed: int, rows: int, columns: int, height: int, width: int) -> None:
    z = unit(4, rows, columns, seed=seed, dim=0)
    parts: NDArray[np.int32] = torch.randint(0, 3, (height, width), generator=generator(seed)).int().numpy()
    sums = torch.zeros(3, 4, dtype=torch.float64)
    for y, x in product(range(height), range(width)):
        sums[parts[y, x]] += z[:, y * rows // height, x * columns // width]
    expected = F.normalize(sums, dim=1).numpy()
    np.testing.assert_allclose(pool_parts(z, parts, 3), expected, atol=1e-5)
