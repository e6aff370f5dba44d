"""Colors of classes by their names: the sky is blue and grass green, and a name has one color wherever it is shown.

Names without a color of their own get one of a palette by a hash of their letters. Only where two names of one list
would look alike does one of them get another color: the later one, or the one without a color of its own. The page
computes the same in ``assets/serve/colors.js``.
"""

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from clips4.utils.images import UNKNOWN_COLOR, palette

_TABLE = "assets/serve/named_colors.js"  # the page imports it; its object is JSON
_CANDIDATES = 256
_OWN_ALIKE, _ALIKE = 2500, 8100  # squared distances (see ``_distances``) below which two colors look alike


def class_colors(names: Sequence[str]) -> NDArray[np.uint8]:
    """(K, 3) a color for each name, distinct within the list (of at most 256 names), none of them that of unknown.

    Args:
        names: class names in the order of their labels.

    Example:
        >>> ["#{:02x}{:02x}{:02x}".format(*color) for color in class_colors(["sky", "Grass"]).tolist()]
        ['#7cc4f5', '#4caf3a']
    """
    candidates = palette(max(_CANDIDATES, len(names))).astype(np.int64)
    parts = [_parts(name) for name in names[:_CANDIDATES]]
    own = [_own_colors(each) for each in parts]
    found, taken = candidates[: len(names)].copy(), np.array([UNKNOWN_COLOR], np.int64)
    for index in sorted(range(len(parts)), key=lambda index: len(own[index]) == 0):
        offset = _hash(" ".join(parts[index])) % _CANDIDATES
        choices = np.concatenate([own[index], np.roll(candidates[:_CANDIDATES], -offset, axis=0)])
        distances = _distances(choices, taken).min(1)
        apart = np.flatnonzero(distances >= np.where(np.arange(len(choices)) < len(own[index]), _OWN_ALIKE, _ALIKE))
        found[index] = choices[apart[0] if len(apart) else distances.argmax()]
        taken = np.concatenate([taken, found[index][None]])
    return found.astype(np.uint8)


def _parts(name: str) -> list[str]:
    return name.lower().replace("-", " ").replace("_", " ").split()


def _own_colors(parts: list[str]) -> NDArray[np.int64]:
    """(0 or 3, 3) the color of the name, or of its last or first word; a lighter and a darker one."""
    for key in (" ".join(parts), *parts[-1:], *parts[:1]):
        if found := _table().get(key) or _table().get(key.removesuffix("s")):
            color = np.array([int(found[at : at + 2], 16) for at in (1, 3, 5)])
            return np.stack([color, (2 * color + 255) // 3, 2 * color // 3])
    return np.empty((0, 3), np.int64)


@cache
def _table() -> dict[str, str]:
    text = resources.files("clips4").joinpath(_TABLE).read_text("utf-8")
    table: dict[str, str] = json.loads(text[text.index("{\n") : text.rindex("}") + 1])
    return table


def _hash(text: str) -> int:
    """FNV-1a of 32 bits: the same everywhere, unlike ``hash``."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def _distances(colors: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, M) squared distances of colors as eyes weigh the channels ("redmean"), in whole numbers."""
    red = (colors[:, None, 0] + others[None, :, 0]) // 2
    difference = (colors[:, None] - others[None]) ** 2
    weights = np.stack([512 + red, np.full_like(red, 1024), 767 - red], 2)
    return (difference * weights).sum(2) // 256
