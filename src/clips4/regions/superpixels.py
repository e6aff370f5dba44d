"""Superpixels as visually coherent regions: SLIC and Felzenszwalb, by scikit-image.

SLIC: Achanta et al. (TPAMI 2012). Felzenszwalb & Huttenlocher (IJCV 2004).
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clips4.images import RGB

Method = Literal["slic", "felzenszwalb"]

_SCALES = 8  # bisection steps to reach a count with Felzenszwalb, whose parameter is a scale


def superpixels(image: RGB, method: Method = "slic", count: int = 48) -> NDArray[np.int32]:
    """Regions of a picture.

    Args:
        image: (H, W, 3) uint8.
        method: ``slic`` gives about ``count`` regions of like size; ``felzenszwalb`` follows strong edges, with its
            scale searched so that there are at most ``count`` regions, and nearly so many.
        count: regions wanted.

    Returns:
        (H, W) labels 0..R-1, every one used, each region connected.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected image (H, W, 3), got {image.shape}")
    if count < 1:
        raise ValueError(f"count is a positive number of regions, got {count}")
    if method == "slic":
        return _slic(image, count)
    if method == "felzenszwalb":
        return _felzenszwalb(image, count)
    raise ValueError(f"method is 'slic' or 'felzenszwalb', got {method!r}")


def _slic(image: RGB, count: int) -> NDArray[np.int32]:
    from skimage.segmentation import slic

    return _consecutive(slic(image, count, compactness=10, sigma=1, start_label=0, channel_axis=-1))


def _felzenszwalb(image: RGB, count: int) -> NDArray[np.int32]:
    from skimage.segmentation import felzenszwalb

    height, width = image.shape[:2]
    # a region is rarely smaller than a fifth of the mean
    min_size = max(1, height * width // (5 * count))
    low, high = 1.0, 20000.0
    best = None
    for _ in range(_SCALES):
        scale = (low * high) ** 0.5
        labels = felzenszwalb(image, scale=scale, sigma=0.8, min_size=min_size, channel_axis=-1)
        regions = int(labels.max()) + 1
        if regions > count:
            low = scale
        else:
            best, high = labels, scale
            if regions > 0.9 * count:
                break
    if best is None:
        best = felzenszwalb(image, scale=high, sigma=0.8, min_size=height * width // count + 1, channel_axis=-1)
    return _consecutive(best)


def _consecutive(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Connected parts of each label, numbered 0.. without gaps."""
    from skimage.measure import label

    return (label(labels, background=-1, connectivity=2) - 1).astype(np.int32)
