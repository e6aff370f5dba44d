"""Object masks of videos as DAVIS stores them: one PNG a frame, 0 for no object; numpy alone, no torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clips4.data.label_maps import IGNORE, WIDE_IGNORE, distinct, read_stored
from clips4.errors import UserError

Rules = Literal["davis16", "davis17"]
Mask = NDArray[np.integer]

_VOID = -1  # a pixel that is not scored, here; masks of 8 bits keep their own value for it
_BINARY = {0, _VOID}
_GRAYS = (64, 128, 192)  # of DAVIS's palette, besides black


@dataclass(frozen=True)
class SequenceObjects:
    """The objects in the masks of one sequence.

    Attributes:
        rules: by which they are counted.
        first: number of each object in ascending order -> index of the first mask that has it.
    """

    rules: Rules
    first: Mapping[int, int]


class KeptMasks:
    """Masks that are read twice, of which the first ones stay in memory.

    Args:
        limit: bytes that are kept at most.
    """

    def __init__(self, limit: int = 2**27):
        self._left, self._kept = limit, dict[Path, Mask]()

    def __call__(self, path: Path) -> Mask:
        """(H, W) object of each pixel as it is stored, 0 for none; see ``read_mask`` for those that are not scored."""
        if path not in self._kept:
            values = _read(path)
            if values.nbytes > self._left:
                return values
            self._left -= values.nbytes
            self._kept[path] = values
        return self._kept[path]


def find_objects(
    masks: Sequence[Path], rules: Rules | None = None, read: Callable[[Path], Mask] | None = None
) -> SequenceObjects:
    """The objects of a sequence, from all of its masks: some may appear late, and numbers may have gaps.

    Args:
        masks: in order.
        rules: see ``read_mask``; by default DAVIS-2016 where the masks hold 0 and 255 alone, else DAVIS-2017.
        read: a ``KeptMasks`` where the masks are read again.

    Raises:
        UserError: a mask cannot be read.
    """
    first: dict[int, int] = {}
    for index, path in enumerate(masks):
        for value in _values((read or _read)(path)):
            first.setdefault(value, index)
    rules = rules or ("davis16" if set(first) <= _BINARY and _VOID in first else "davis17")
    found = {value: index for value, index in first.items() if value != 0}
    if rules == "davis16":
        return SequenceObjects(rules, {1: min(found.values())} if found else {})
    found.pop(_VOID, None)
    return SequenceObjects(rules, dict(sorted(found.items())))


def are_binary(masks: Iterable[Path]) -> bool:
    """Whether masks hold 0 and 255 alone, and 255 at all; they are read up to the first that holds another value.

    Raises:
        UserError: a mask cannot be read.
    """
    marked = False
    for path in masks:
        if not (found := _values(_read(path))) <= _BINARY:
            return False
        marked |= _VOID in found
    return marked


def first_masks(masks: Sequence[Path], rules: Rules | None = None) -> dict[int, Mask]:
    """The first mask of each object of a sequence: index of a mask -> (H, W) objects that appear there, 0 elsewhere.

    Args:
        masks: in order.
        rules: see ``find_objects``.

    Raises:
        UserError: a mask cannot be read.
    """
    objects = find_objects(masks, rules)
    given = {}
    for index in sorted(set(objects.first.values())):
        mask = read_mask(masks[index], objects.rules)
        new = [number for number, place in objects.first.items() if place == index]
        given[index] = np.where(np.isin(mask, new), mask, 0)
    return given


def read_mask(path: Path, rules: Rules, read: Callable[[Path], Mask] | None = None) -> Mask:
    """(H, W) object of each pixel, 0 for none.

    Read as stored, see ``label_maps.read_labels``; RGB images are accepted if they are gray or if every color is one of
    the DAVIS palette.

    Args:
        path: of the PNG.
        rules: "davis16" (every value but 0 is the one object) or "davis17" (each value is an object; 255, or 65535 of
            16 bits, is void).
        read: the ``KeptMasks`` that may have it.

    Raises:
        UserError: the file is not readable, or has other colors or values.
    """
    values = (read or _read)(path)
    if rules == "davis16":
        return (values != 0).astype(np.uint8)
    return np.where(values == _void_in(values), values.dtype.type(0), values)


def _read(path: Path) -> Mask:
    """(H, W) object of each pixel, 0 for none, ``_void_in`` for pixels that are not scored."""
    values = read_stored(path)
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            return _objects_of_colors(values, path)
        values = values[..., 0]
        if np.isin(values, _GRAYS).any():
            raise UserError(
                f"{path}: an RGB image of grays may hold numbers or DAVIS's colors; save masks as palette PNGs"
            )
    if values.dtype == np.uint8:
        return values
    if values.min() < 0:
        raise UserError(f"{path}: value {values.min()}; number objects 1, 2, ... and give 0 to other pixels")
    if values.dtype.itemsize > 1 and values.max() == IGNORE:
        raise UserError(
            f"{path}: 255 in a mask of 16 bits or more may be object 255 or void; save it with 8 bits, or void as "
            f"{WIDE_IGNORE}"
        )
    void = IGNORE if values.dtype.itemsize == 1 else WIDE_IGNORE
    return np.where(values == void, _VOID, values.astype(np.int32))


def _values(mask: Mask) -> set[int]:
    """The values of what ``_read`` returned, ``_VOID`` among them."""
    return {_VOID if value == _void_in(mask) else value for value in distinct(mask)}


def _void_in(values: Mask) -> int:
    """The value of pixels that are not scored in what ``_read`` returned."""
    return IGNORE if values.dtype == np.uint8 else _VOID


def _objects_of_colors(rgb: NDArray[np.integer], path: Path) -> Mask:
    codes, known = (colors.astype(np.int32) @ np.array([65536, 256, 1]) for colors in (rgb, davis_palette()))
    found, inverse = np.unique(codes, return_inverse=True)
    if strange := [code for code in found.tolist() if code not in set(known.tolist())]:
        raise UserError(f"{path}: color #{strange[0]:06x} is not in the DAVIS palette; save masks as palette PNGs")
    numbers = np.array([int(np.flatnonzero(known == code)[0]) for code in found], np.int32)
    return numbers[inverse.reshape(codes.shape)]


def davis_palette() -> NDArray[np.uint8]:
    """(256, 3) uint8, the palette of Pascal VOC and DAVIS: the bits of a number, dealt in turn to R, G and B."""
    numbers = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors
