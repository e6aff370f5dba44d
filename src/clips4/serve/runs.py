"""Label maps as runs: value and number of pixels in turn, row by row. Exact, small, and read in any language."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clips4.errors import UserError


def to_runs(labels: NDArray[np.integer]) -> list[int]:
    """(H, W) -> [value, count, value, count, ...].

    Example:
        >>> to_runs(np.array([[3, 3], [3, -1]]))
        [3, 3, -1, 1]
    """
    flat = labels.ravel()
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])
    counts = np.diff(np.r_[starts, flat.size])
    return np.stack([flat[starts].astype(np.int64), counts], 1).ravel().tolist()


def from_runs(runs: Sequence[int], size: tuple[int, int]) -> NDArray[np.int32]:
    """(H, W) of runs.

    Raises:
        UserError: they do not cover the size.
    """
    values, counts = np.array(runs[::2], np.int64), np.array(runs[1::2], np.int64)
    if len(values) != len(counts) or (counts < 0).any() or int(counts.sum()) != size[0] * size[1]:
        raise UserError(f"runs: give value and count in turn, for all of {size[1]} x {size[0]} pixels")
    if len(values) and not -(2**31) <= values.min() <= values.max() < 2**31:
        raise UserError("runs: values are 32-bit numbers")
    return np.repeat(values.astype(np.int32), counts).reshape(size)
