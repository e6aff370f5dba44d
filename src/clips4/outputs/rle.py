"""Run-length encoding of masks as COCO writes it: what pycocotools reads, without pycocotools.

A mask is read column by column; its counts are the lengths of the runs of 0, 1, 0, ... in turn. As text, each count
from the fourth on is stored as its difference from the count two before, in groups of five bits, the lowest first, with
a sixth bit for "more follows", each shifted into printable characters by 48.
"""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class Rle(TypedDict):
    """A mask as COCO's JSON holds it: ``size`` is [height, width]."""

    size: list[int]
    counts: str


def encode(mask: NDArray[np.bool_], size: tuple[int, int] | None = None, corner: tuple[int, int] = (0, 0)) -> Rle:
    """Encode a mask that lies within a box of the image; the rest of the image costs nothing.

    Args:
        mask: (h, w) of the box.
        size: (H, W) of the image; the mask's own by default.
        corner: (top, left) of the box in the image.
    """
    height, width = size or mask.shape
    return {"size": [height, width], "counts": text_of(counts_of(mask, (height, width), corner))}


def counts_of(mask: NDArray[np.bool_], size: tuple[int, int], corner: tuple[int, int]) -> list[int]:
    """Lengths of the runs of 0, 1, 0, ... of the whole image, column by column."""
    height, width = size
    padded = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)  # a row for each column, closed at both ends
    padded[:, 1:-1] = mask.T
    change = np.diff(padded, axis=1)
    columns, begin = np.nonzero(change == 1)
    _, end = np.nonzero(change == -1)
    offset = (columns + corner[1]).astype(np.int64) * height + corner[0]
    begin, end = begin + offset, end + offset
    if len(begin) > 1:  # a run that ends at the bottom of a column continues at the top of the next
        apart = begin[1:] != end[:-1]
        begin, end = begin[np.r_[True, apart]], end[np.r_[apart, True]]
    edges = np.stack([begin, end], 1).ravel()
    counts = np.diff(np.r_[0, edges, height * width]).tolist()
    return counts if counts[-1] or len(counts) == 1 else counts[:-1]


def decode(rle: Rle) -> NDArray[np.bool_]:
    """(H, W) mask."""
    height, width = rle["size"]
    counts = counts_of_text(rle["counts"])
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def text_of(counts: list[int]) -> str:
    """Counts -> COCO's characters."""
    characters = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            group, value = value & 0x1F, value >> 5
            last = value == (-1 if group & 0x10 else 0)  # the fifth bit is the sign of the last group
            characters.append(chr(48 + (group if last else group | 0x20)))
            if last:
                break
    return "".join(characters)


def counts_of_text(text: str) -> list[int]:
    """COCO's characters -> counts."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts
