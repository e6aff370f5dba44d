"""FiftyOne's ``ImageSegmentationDirectory``: ``data/`` has links to the images, ``labels/`` masks of the same names.

A mask holds the place of a class from 1 on; 0, which FiftyOne shows as background, is unknown. ``mask_targets.json``
names the values: ``dataset.default_mask_targets = {int(key): name for key, name in json.load(file).items()}``.
"""

import json
from collections.abc import Sequence

import numpy as np

from clips4.outputs.labeled_image import LabeledImage
from clips4.utils.images import encode_png


def fiftyone_mask(result: LabeledImage) -> bytes:
    """The gray PNG of one image, of 8 bits, or 16 with more than 255 classes."""
    return encode_png((result.labels + 1).astype(np.uint8 if len(result.names) < 256 else np.uint16))


def mask_targets(names: Sequence[str]) -> str:
    """``mask_targets.json``.

    Example:
        >>> mask_targets(["cat", "dog"])
        '{"1": "cat", "2": "dog"}'
    """
    return json.dumps({str(value): name for value, name in enumerate(names, 1)}, ensure_ascii=False)
