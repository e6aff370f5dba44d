"""Label Studio's packed bits: every mask comes back, and the other form of a block is understood."""

import numpy as np
import pytest
from numpy.typing import NDArray

from clips4.outputs.brush_rle import decode, encode


def pack(*fields: tuple[int, int]) -> list[int]:
    """Numbers and their widths as bytes."""
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


HEAD = ((8, 32), (7, 5), (2, 4), (3, 4), (7, 4), (15, 4))  # 8 values of 8 bits; counts of 3, 4, 8 and 16 bits


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (40, 300), (300, 400)])
def test_decode_of_encode_is_the_mask(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    masks: list[NDArray[np.bool_]] = [np.zeros(size, bool), np.ones(size, bool), random.random(size) < 0.5]
    masks.append(np.kron(random.random((size[0], 1)) < 0.5, np.ones((1, size[1]))).astype(bool))
    for mask in masks:
        np.testing.assert_array_equal(decode(encode(mask), size), mask)


def test_encode_equals_bits_packed_by_hand() -> None:
    # two pixels, the second one set: two runs of four values
    assert encode(np.array([[False, True]])) == pack(
        *HEAD, (1, 1), (0, 2), (3, 3), (0, 8), (1, 1), (0, 2), (3, 3), (255, 8)
    )


def test_decode_of_values_one_by_one_reads_the_last_channel() -> None:
    values = [9, 9, 9, 0, 0, 0, 0, 7]
    assert decode(pack(*HEAD, (0, 1), (0, 2), (7, 3), *((value, 8) for value in values)), (1, 2)).tolist() == [
        [False, True]
    ]


@pytest.mark.parametrize(
    "packed",
    [
        [],
        pack(*HEAD),
        pack((9, 32), *HEAD[1:]),
        pack(*HEAD, (1, 1), (1, 2), (15, 4), (255, 8)),
        encode(np.eye(2, dtype=bool))[:-2],
        [0.5, *encode(np.eye(2, dtype=bool))],
    ],
)
def test_decode_of_damaged_bytes_raises(packed: list[int]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any reason
        decode(packed, (1, 2))
