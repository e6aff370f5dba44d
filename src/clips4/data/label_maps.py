"""Label maps: files as they are stored, and the values of ignored pixels. No torch, so that scorers start fast."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clips4.data.image_folder import files_below
from clips4.errors import UserError
from clips4.utils.image_file import open_image, orientation, read_array
from clips4.utils.images import turned

IGNORE = 255  # in label files: a pixel that is not scored
WIDE_IGNORE = 65535  # the same in label files of 16 bits; the only such value if there are more than 255 classes
IGNORED = -1  # in region and segment maps: a pixel that belongs to none
SUFFIXES = (".png", ".tif", ".tiff", ".npy")

_BITS = {"1": 1, "L;2": 2, "L;4": 4}  # how gray of less than 8 bits is packed; Pillow stretches it to 0..255
_FIX = "save class numbers as a gray or palette PNG of 8 or 16 bits"


def ignore_value(classes: int) -> int:
    """The value of a pixel that is not scored in maps of 0..K-1: 255, or 65535 with more than 255 classes."""
    return IGNORE if classes <= IGNORE else WIDE_IGNORE


def find_label_maps(folder: Path) -> list[Path]:
    """The label maps in a folder and its subfolders, sorted; none if there is no such folder."""
    return [path for path in files_below(folder) if path.suffix.lower() in SUFFIXES]


def read_labels(path: Path) -> NDArray[np.integer]:
    """(H, W) values of a label map as they are stored.

    A PNG or TIFF, gray of 1 to 32 bits or palette; or a ``.npy`` array (H, W). Floats
    must hold whole numbers. An EXIF orientation of the file itself is applied.

    Raises:
        UserError: the file is unreadable, or its values are no class numbers (colors, panoptic ids, fractions).
    """
    values = read_stored(path)
    if values.ndim == 3:
        raise UserError(f"{path}: an RGB image, whose colors may be classes or panoptic ids; {_FIX}")
    return values


def read_stored(path: Path) -> NDArray[np.integer]:
    """(H, W) values as they are stored, or (H, W, 3) uint8 of an RGB image; see ``read_labels``.

    Raises:
        UserError: the file is unreadable, or its values are no whole numbers.
    """
    return _whole_numbers(_read_array(path) if path.suffix.lower() == ".npy" else _read_image(path), path)


def distinct(values: NDArray[np.integer]) -> list[int]:
    """The values that occur, ascending: ``np.unique``, many times faster for maps of areas.

    Example:
        >>> distinct(np.array([[7, 2], [-1, 7]], np.int16))
        [-1, 2, 7]
    """
    flat = values.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1])  # of runs of one value, few in maps
    return np.unique(np.append(flat[ends], flat[-1:])).tolist()


def _read_array(path: Path) -> NDArray[Any]:
    stored = read_array(path, "label map")
    values = stored.squeeze() if stored.ndim == 3 and 1 in stored.shape else stored
    if values.ndim != 2:
        raise UserError(f"{path}: an array {stored.shape}; save class numbers (H, W)")
    return values


def _read_image(path: Path) -> NDArray[Any]:
    # formats such as JPEG change label values
    with open_image(path, str(path), "label map", formats=("PNG", "TIFF")) as image:
        tile = getattr(image, "tile", None)
        args = (tile[0].args if tile else None) or ""
        packing = str(args if isinstance(args, str) else args[0])
        sample_format = getattr(image, "tag_v2", {}).get(339)  # of a TIFF: 2 is signed
        image.load()
        values = np.array(image)
        turn = orientation(image)
        mode = image.mode
    if mode in ("1", "L"):
        kind, _, flags = packing.partition(";")
        bits = next((bits for start, bits in _BITS.items() if packing.startswith(start)), 8)
        values = values.astype(np.uint8, copy=False)
        if mode != "1" and bits < 8:
            values = values // (255 // (2**bits - 1))
        if kind == mode and "I" in flags:  # a TIFF whose white is 0: undo the inversion
            values = 2**bits - 1 - values
        if sample_format and int(np.ravel(sample_format)[0]) == 2:
            values = values.view(np.int8)
    elif mode in ("LA", "PA", "RGB", "RGBA"):
        if "16" in packing:
            raise UserError(f"{path}: color or transparency of 16 bits a channel; {_FIX}")
        values = _without_alpha(values, mode, path)
    elif mode not in ("P", "I", "F") and not mode.startswith("I;16"):
        raise UserError(f"{path}: mode {mode}; {_FIX}")
    return turned(values, turn)


def _without_alpha(values: NDArray[np.uint8], mode: str, path: Path) -> NDArray[np.uint8]:
    """(H, W, C) -> (H, W) or (H, W, 3)."""
    if mode == "RGB":
        return values
    if values[..., :-1][values[..., -1] < 255].any():
        raise UserError(f"{path}: transparent pixels that are not black; {_FIX}, without transparency")
    return values[..., 0] if values.shape[-1] == 2 else values[..., :-1]


def _whole_numbers(values: NDArray[Any], path: Path) -> NDArray[np.integer]:
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any() or np.abs(values).max() > 2**31:
            raise UserError(f"{path}: fractions, NaN or infinity; a label map holds whole numbers: {_FIX}")
        return values.astype(np.int64)
    if values.dtype.kind not in {"b", "i", "u"}:
        raise UserError(f"{path}: values of type {values.dtype}; {_FIX}")
    return values.astype(np.uint8 if values.dtype.kind == "b" else values.dtype.newbyteorder("="), copy=False)


def check_depth(values: NDArray[np.integer], classes: int, path: Path) -> None:
    """Refuse 255 in an 8-bit map of more than 255 classes, where it may be a class or an ignored pixel.

    Raises:
        UserError: it occurs.
    """
    if classes > IGNORE and values.dtype.itemsize == 1 and (values == IGNORE).any():
        raise UserError(
            f"{path}: 255 in an 8-bit map of {classes} classes may be class 255 or an ignored pixel; save maps of more "
            f"than 255 classes with 16 bits, ignored pixels as {WIDE_IGNORE}"
        )


def ignore_wide(values: NDArray[np.integer], classes: int) -> NDArray[np.integer]:
    """Stored values of a truth with both ignored values of up to 255 classes as one: 65535 becomes 255."""
    if classes > IGNORE or values.dtype.itemsize == 1:
        return values
    return np.where(values == WIDE_IGNORE, IGNORE, values)


def apply_table(table: NDArray[np.integer], values: NDArray[np.integer], path: Path) -> NDArray[np.integer]:
    """Stored label values -> what the table holds for them; in maps of 16 bits 65535 is the same as 255.

    Raises:
        UserError: a value is outside the table.
    """
    values = ignore_wide(values, 0 if len(table) <= WIDE_IGNORE else len(table))
    if values.size and (values.min() < 0 or values.max() >= len(table)):
        raise UserError(f"{path}: labels {values.min()}..{values.max()}; this set's are 0..{len(table) - 1}")
    return table[values]
