"""Region maps that other programs made: HSG's published contour regions, Segment Anything's masks, one's own.

- ``STEM.png``: gray or palette labels of 8 or 16 bits; each value is a region.
- ``STEM.npz``: an array ``regions`` (h, w) of integers, or one array of any name.
- ``STEM.json``: masks as COCO's run lengths, ``{"annotations": [{"segmentation": {"size": [h, w], "counts": ...}}]}``,
  as Segment Anything's own files have them. Smaller masks lie on top of larger ones; what no mask covers is a region.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clips4.errors import UserError
from clips4.outputs.rle import Rle, decode
from clips4.regions.files.serialization import MAX_REGIONS
from clips4.utils.image_file import max_pixels, open_image
from clips4.utils.text import read_json

READY_SUFFIXES = (".png", ".npz", ".json", ".PNG", ".NPZ", ".JSON")
_MAX_STRETCH = 0.02  # relative difference of aspect that a map may have from its image


def read_region_map(path: Path, size: tuple[int, ...]) -> NDArray[np.int32]:
    """Read a region map and bring it to the size of its image, by nearest neighbor.

    Args:
        path: one of ``READY_SUFFIXES``.
        size: (H, W) of the image; the map must have the same aspect.

    Returns:
        (H, W) labels 0..R-1, all of which occur; regions need not be connected.

    Raises:
        UserError: the file is unreadable, is no label map, has another aspect or too many regions.

    Example:
        >>> read_region_map(Path("masks/photo.json"), (480, 640)).max()
        56
    """
    readers = {".png": _read_png, ".npz": _read_npz, ".json": _read_masks}
    labels = readers[path.suffix.lower()](path)
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or not labels.size:
        raise UserError(f"{path}: {labels.shape} of {labels.dtype}; a region map has integers (h, w)")
    height, width = labels.shape
    if abs(np.log(height * size[1] / (width * size[0]))) > _MAX_STRETCH + 1 / min(size):
        raise UserError(f"{path}: {labels.shape} has another aspect than its image {tuple(size)}; make it again")
    rows = (np.arange(size[0]) * 2 + 1) * height // (2 * size[0])  # centers of pixels
    columns = (np.arange(size[1]) * 2 + 1) * width // (2 * size[1])
    values, consecutive = np.unique(labels[rows[:, None], columns[None]], return_inverse=True)
    if len(values) > MAX_REGIONS:
        raise UserError(f"{path}: {len(values)} regions; at most {MAX_REGIONS} can be used")
    return consecutive.reshape(size[0], size[1]).astype(np.int32)


def _read_png(path: Path) -> NDArray[Any]:
    with open_image(path, str(path), "region map", formats=["PNG"]) as image:
        if image.mode not in ("L", "P", "1", "I", "I;16"):
            raise UserError(f"{path}: mode {image.mode}; a region map is gray or has a palette, one number per pixel")
        labels: NDArray[Any] = np.asarray(image.convert("L") if image.mode == "1" else image)
    return labels


def _read_npz(path: Path) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            if max(member.file_size for member in archive.infolist()) > 8 * max_pixels() + 1024:
                raise UserError(f"{path}: larger than the limit for images; raise CLIPS4_MAX_MEGAPIXELS")
        with np.load(path, allow_pickle=False) as arrays:
            if "regions" not in arrays and len(arrays.files) != 1:
                raise UserError(f"{path}: has {', '.join(arrays.files)[:80]}; save one array, or name it regions")
            return arrays["regions" if "regions" in arrays else arrays.files[0]]
    except UserError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path}: not a readable NPZ ({type(error).__name__}); make it again with numpy.savez")


def _read_masks(path: Path) -> NDArray[np.int32]:
    """Masks painted from the largest to the smallest; 0 where there is none."""
    masks = [_mask(each, path) for each in _annotations(path)]
    if len({mask.shape for mask in masks}) > 1:
        raise UserError(f"{path}: masks of several sizes; those of an image have one size")
    labels = np.zeros(masks[0].shape, np.int32)
    order = sorted(range(len(masks)), key=lambda index: -int(masks[index].sum()))
    for number, index in enumerate(order, 1):
        labels[masks[index]] = number
    return labels


def _annotations(path: Path) -> list[Any]:
    found = read_json(path).get("annotations")
    if not isinstance(found, list) or not found:
        raise UserError(
            f'{path}: no masks; write {{"annotations": [{{"segmentation": {{"size": ..., "counts": ...}}}}]}}'
        )
    return found


def _mask(annotation: Any, path: Path) -> NDArray[np.bool_]:
    """One mask, its counts as text or as a list."""
    try:
        segmentation = annotation["segmentation"]
        height, width = (int(side) for side in segmentation["size"])
        counts = segmentation["counts"]
        if not 0 < height * width <= max_pixels() or min(height, width) < 1:
            raise ValueError("size")
        if isinstance(counts, str):
            return decode(Rle(size=[height, width], counts=counts))
        lengths = np.array(counts, np.int64)
        if lengths.ndim != 1 or lengths.min(initial=0) < 0 or lengths.sum() != height * width:
            raise ValueError("counts")
        return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise UserError(
            f"{path}: a mask that is no run-length encoding of COCO ({type(error).__name__}); make it again"
        )
