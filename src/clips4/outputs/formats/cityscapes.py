"""Cityscapes' label ids: gray PNGs ``STEM_gtFine_labelIds.png``, as its evaluation scripts read them.

Classes are known by their Cityscapes names (``assets/labels/cityscapes.txt``); all else, unknown pixels included, is 0,
"unlabeled".
"""

from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np

from clips4.outputs.labeled_image import LabeledImage
from clips4.utils.images import encode_png

SUFFIX = "_gtFine_labelIds.png"
UNLABELED = 0


@cache
def label_ids() -> dict[str, int]:
    """Name -> label id of Cityscapes' classes."""
    text = resources.files("clips4").joinpath("assets/labels/cityscapes.txt").read_text("utf-8")
    lines = [line.split(" ", 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {name: int(value) for value, name in lines}


def ids_of(names: Sequence[str]) -> list[int]:
    """(K,) the label id of each class, 0 for names that Cityscapes does not have.

    Example:
        >>> ids_of(["road", "sky", "zebra"])
        [7, 23, 0]
    """
    return [label_ids().get(name.casefold(), UNLABELED) for name in names]


def label_id_png(result: LabeledImage) -> bytes:
    """The map of one image, of the image's own size."""
    table = np.array([*ids_of(result.names), UNLABELED], np.uint8)  # the last for -1, unknown
    return encode_png(table[result.labels])
