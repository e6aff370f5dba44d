"""Superpixels as visually coherent regions: SLIC and Felzenszwalb, by scikit-image, or OpenCV where it is faster.

SLIC: Achanta et al. (TPAMI 2012). Felzenszwalb & Huttenlocher (IJCV 2004).
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clips4.errors import UserError
from clips4.utils.extras import install_command
from clips4.utils.images import RGB

Method = Literal["slic", "felzenszwalb"]
Implementation = Literal["auto", "scikit-image", "opencv"]

_SCALES = 8  # bisection steps to reach a count with Felzenszwalb, whose parameter is a scale
_ATTEMPTS = 3  # to reach a count with SLIC, which merges small regions
_SMALLEST = 0.2  # of the mean size; Felzenszwalb merges smaller regions with a neighbor


def superpixels(
    image: RGB, method: str = "slic", count: int = 48, implementation: Implementation = "auto"
) -> NDArray[np.int32]:
    """Regions of an image.

    Args:
        image: (H, W, 3) uint8.
        method: ``slic`` gives about ``count`` regions of similar size; ``felzenszwalb`` follows strong edges, and its
            scale is searched to give at most ``count`` regions, and nearly as many.
        count: number of regions.
        implementation: see ``choose_implementation``.

    Returns:
        (H, W) labels 0..R-1, every one used, each region connected.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected image (H, W, 3), got {image.shape}")
    if count < 1:
        raise ValueError(f"count is a positive number of regions, got {count}")
    if method == "slic":
        choose_implementation(method, implementation)
        return _slic(image, count)
    if method == "felzenszwalb":
        return _felzenszwalb(image, count, choose_implementation(method, implementation))
    raise ValueError(f"method is 'slic' or 'felzenszwalb', got {method!r}")


def choose_implementation(method: str, requested: Implementation) -> Literal["scikit-image", "opencv"]:
    """Choose the library that computes superpixels.

    ``auto`` is OpenCV for Felzenszwalb if it is installed (three times as fast), otherwise scikit-image. SLIC is always
    scikit-image's, which is as fast as OpenCV's.

    Raises:
        UserError: OpenCV is requested but not installed, or requested for SLIC.
    """
    if method == "slic":
        if requested == "opencv":
            raise UserError("regions.implementation=opencv has felzenszwalb only; give auto for slic")
        return "scikit-image"
    installed = _has_opencv()
    if requested == "opencv" and not installed:
        install = install_command("opencv-contrib-python-headless")
        raise UserError(f"regions.implementation=opencv: cv2.ximgproc is missing; {install}")
    return "opencv" if installed and requested != "scikit-image" else "scikit-image"


def _has_opencv() -> bool:
    try:
        import cv2
    except ImportError:
        return False
    return hasattr(cv2, "ximgproc")  # the plain package lacks it


def _slic(image: RGB, count: int) -> NDArray[np.int32]:
    from skimage.segmentation import slic

    requested, nearest = float(count), None
    for _ in range(_ATTEMPTS):
        labels = slic(image, max(1, round(requested)), compactness=10, sigma=1, start_label=0, channel_axis=-1)
        regions = _consecutive(labels)
        made = int(regions.max()) + 1
        if nearest is None or abs(made - count) < abs(int(nearest.max()) + 1 - count):
            nearest = regions
        if abs(made - count) <= 0.1 * count or requested >= labels.size:
            break
        requested = min(requested * count / made, labels.size)
    assert nearest is not None
    return nearest


def _felzenszwalb(image: RGB, count: int, implementation: Literal["scikit-image", "opencv"]) -> NDArray[np.int32]:
    height, width = image.shape[:2]
    segment = _opencv_graph(image) if implementation == "opencv" else _skimage_graph(image)
    min_size = max(1, int(_SMALLEST * height * width / count))
    low, high = 1.0, 20000.0
    best: NDArray[np.int32] | None = None
    for _ in range(_SCALES):
        scale = (low * high) ** 0.5
        labels = _consecutive(segment(scale, min_size))
        regions = int(labels.max()) + 1
        if regions > count:
            low = scale
        else:
            best, high = labels, scale
            if regions > 0.9 * count:
                break
    if best is None:
        best = _consecutive(segment(high, height * width // count + 1))
    return best


def _skimage_graph(image: RGB) -> Callable[[float, int], NDArray[np.integer]]:
    from skimage.segmentation import felzenszwalb

    return lambda scale, min_size: felzenszwalb(image, scale=scale, sigma=0.8, min_size=min_size, channel_axis=-1)


def _opencv_graph(image: RGB) -> Callable[[float, int], NDArray[np.integer]]:
    import cv2

    def segment(scale: float, min_size: int) -> NDArray[np.integer]:
        graph = cv2.ximgproc.segmentation.createGraphSegmentation(sigma=0.8, k=scale, min_size=min_size)
        labels: NDArray[np.integer] = graph.processImage(np.ascontiguousarray(image))
        return labels

    return segment


def _consecutive(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Connected parts of each label, numbered 0.. without gaps."""
    from skimage.measure import label

    return (label(labels, background=-1, connectivity=2) - 1).astype(np.int32)
