"""Label maps: the values of ignored pixels, and label files as stored. No torch, so that scorers start fast."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clips4.errors import UserError

IGNORE = 255  # in label files: a pixel that is not scored
IGNORED = -1  # in region and segment maps: a pixel that belongs to none

_MODES = {"L": np.uint8, "P": np.uint8, "1": np.uint8, "I;16": np.uint16, "I": np.int32}


def read_labels(path: Path) -> NDArray[np.integer]:
    """(H, W) values of a label PNG, gray or palette, 8 or 16 bits, as they are stored.

    Raises:
        UserError: the file is unreadable, or an RGB image.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in _MODES:
                raise UserError(f"{path}: mode {image.mode}; a label map is a gray or palette PNG of 8 or 16 bits")
            return np.array(image).astype(_MODES[image.mode], copy=False)
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: not a readable label map ({error}); copy it again from its source")


def apply_table(table: NDArray[np.uint8], values: NDArray[np.integer], path: Path) -> NDArray[np.uint8]:
    """Stored label values -> 0..K-1 or ``IGNORE``.

    Raises:
        UserError: a value is outside the table.
    """
    if values.size and (values.min() < 0 or values.max() >= len(table)):
        raise UserError(f"{path}: labels {values.min()}..{values.max()}; this set's are 0..{len(table) - 1}")
    return table[values]
