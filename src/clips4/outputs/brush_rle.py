"""Run-length encoding of masks as Label Studio writes it: the packed bits of RGBA pixels (npm's rle-pack).

A header has the number of values (32 bits), their width less one (5) and four widths of counts, each less one (4 x 4).
Then come blocks: a bit that says whether one value repeats, which width its count has (2 bits), the count less one,
and the value or the values. A mask's four channels are equal; readers take the last one.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CHANNELS, _WORD = 4, 8
_WIDTHS = (3, 4, 8, 16)  # bits of a count


def encode(mask: NDArray[np.bool_]) -> list[int]:
    """The bytes of a mask (H, W), as numbers.

    Example:
        >>> encode(np.ones((1, 1), bool))
        [0, 0, 0, 4, 57, 27, 252, 63, 192]
    """
    values = mask.ravel()
    edges = np.flatnonzero(np.diff(values)) + 1
    bits = [f"{_CHANNELS * values.size:032b}{_WORD - 1:05b}", *(f"{width - 1:04b}" for width in _WIDTHS)]
    for start, length in zip([0, *edges], np.diff([0, *edges, values.size]) * _CHANNELS, strict=True):
        word = ("1" if values[start] else "0") * _WORD
        while length > 0:
            count = min(int(length), 1 << _WIDTHS[-1])
            index = next(place for place, width in enumerate(_WIDTHS) if count <= 1 << width)
            bits.append(f"1{index:02b}{count - 1:0{_WIDTHS[index]}b}{word}")
            length -= count
    return np.packbits(np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")).tolist()


def decode(packed: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of bytes: where the last channel is not 0.

    Raises:
        ValueError: they are damaged, or of another size.
    """
    if not all(isinstance(each, int) and 0 <= each < 256 for each in packed):
        raise ValueError("no bytes")
    text = "".join(f"{each:08b}" for each in packed)
    place = 0

    def take(width: int) -> int:
        nonlocal place
        place += width
        return int(text[place - width : place], 2)

    total, word, widths = take(32), take(5) + 1, [take(4) + 1 for _ in _WIDTHS]
    if total != size[0] * size[1] * _CHANNELS:
        raise ValueError(f"{total} values")
    values, done = np.zeros(total, bool), 0
    while done < total:
        repeats = take(1)
        count = take(widths[take(2)]) + 1
        if done + count > total or place >= len(text):
            raise ValueError("a count beyond the end")
        if repeats:
            values[done : done + count] = take(word) > 0
        else:
            values[done : done + count] = [take(word) > 0 for _ in range(count)]
        done += count
    return values[_CHANNELS - 1 :: _CHANNELS].reshape(size)
