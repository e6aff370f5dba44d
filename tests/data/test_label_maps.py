"""Label maps as they are stored."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips4.data.label_maps import IGNORE, apply_table, read_labels
from clips4.errors import UserError


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_eight_and_sixteen_bits(tmp_path: Path, dtype: type[np.integer]) -> None:
    values = np.array([[0, 7], [255, 250]]).astype(dtype)
    if dtype == np.uint16:
        values[0, 1] = 40_000
    Image.fromarray(values).save(tmp_path / "a.png")
    found = read_labels(tmp_path / "a.png")
    assert found.dtype == dtype
    assert np.array_equal(found, values)


def test_values_beyond_the_table_raise(tmp_path: Path) -> None:
    table = np.array([1, IGNORE], np.uint8)
    assert apply_table(table, np.array([[0, 1]]), tmp_path).tolist() == [[1, IGNORE]]
    with pytest.raises(UserError, match=r"labels 0\.\.2; this set's are 0\.\.1"):
        apply_table(table, np.array([0, 2]), tmp_path)
