"""Contours of an image, by the detector that the settings name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clips4.config import RegionConfig
from clips4.errors import UserError
from clips4.regions.contour_map import ContourMap, from_strength
from clips4.regions.files.ready import READY_SUFFIXES
from clips4.regions.gradient import gradient_contours
from clips4.utils.image_file import open_image, read_array
from clips4.utils.images import RGB, reduce_to

EDGE_SUFFIXES = (".png", ".npy", ".PNG", ".NPY")
_MAX_STRETCH = 0.02  # relative difference of aspect that an edge map may have from its image


def find_contours(image: RGB, settings: RegionConfig, edge_file: Path | None = None, device: str = "cpu") -> ContourMap:
    """The contours of an image, which is first scaled down to ``settings.max_side`` if it is larger.

    Args:
        image: (H, W, 3) uint8.
        settings: ``method`` is one of the ``*-ucm``.
        edge_file: for ``edges-ucm``, the image's edge map; see ``find_edge_file``.
        device: where HED runs.
    """
    seen = reduce_to(image, settings.max_side)
    if settings.method == "edges-ucm":
        if edge_file is None:
            raise ValueError("edges-ucm needs the image's edge map")
        return from_strength(read_edge_map(edge_file, seen.shape[:2]))
    if settings.method == "gradient-ucm":
        return gradient_contours(seen)
    if settings.method == "hed-ucm":
        from clips4.regions.hed import hed_strength

        return from_strength(hed_strength([seen], settings.scales, device)[0])
    raise ValueError(f"{settings.method!r} finds no contours")


def _resize(values: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    height, width = size
    return np.array(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))


# --------------------------------------------------------------------------------------------- edge maps in a folder


def find_edge_file(folder: Path, image: Path, method: str = "edges-ucm") -> Path:
    """The edge map or the ready region map of an image: a file in the folder that the end of the image's path names.

    Of ``photos/a/1.jpg``, that is ``FOLDER/photos/a/1.png``, or else ``FOLDER/a/1.png``, or else ``FOLDER/1.png``;
    ``.npy`` likewise; region maps end in ``READY_SUFFIXES``.

    Raises:
        UserError: there is no map.
    """
    suffixes = READY_SUFFIXES if method == "ready" else EDGE_SUFFIXES
    parts = Path(os.path.abspath(image)).with_suffix("").parts[1:]  # noqa: PTH100  # links stay
    for start in range(len(parts)):
        for suffix in suffixes:
            if (path := folder.joinpath(*parts[start:-1], parts[-1] + suffix)).is_file():
                return path
    if method == "ready":
        raise UserError(f"{image}: no region map {folder / image.stem}.png, .npz or .json; make it with your program")
    raise UserError(f"{image}: no edge map {folder / image.stem}.png or .npy; create it with your detector")


def check_edge_files(folder: Path, images: Sequence[Path], method: str = "edges-ucm") -> None:
    """Check that no two images have the same edge map or ready region map.

    Raises:
        UserError: two have.
    """
    kind = "region map" if method == "ready" else "edge map"
    owners: dict[Path, Path] = {}
    for image in images:
        try:
            file = find_edge_file(folder, image, method)
        except UserError:  # reported when the image's turn comes
            continue
        if (owner := owners.setdefault(file, image)) != image:
            raise UserError(
                f"{file}: would be the {kind} of {owner} and of {image}; rename one of them, or keep their maps in "
                f"folders named as theirs, such as {folder / image.parent.name / file.name}"
            )


def read_edge_map(path: Path, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Read an edge map in [0, 1], bright on contours, and resize it to the image.

    Args:
        path: an 8- or 16-bit gray PNG, or a .npy array (h, w): floats in [0, 1], or unsigned integers.
        size: (H, W) of the image; the map must have the same aspect.

    Raises:
        UserError: the map is unreadable, not gray, of another aspect, or has values out of range.
    """
    if path.suffix.lower() == ".npy":
        values: NDArray[Any] = read_array(path, "edge map")
    else:
        with open_image(path, str(path), "edge map") as image:
            values = np.asarray(image)
            if image.mode == "P":
                raise UserError(f"{path}: a palette image; an edge map is gray, bright on contours")
    if values.ndim != 2 or values.dtype.kind not in "ufib":
        raise UserError(f"{path}: {values.shape} of {values.dtype}; an edge map is gray: (h, w), bright on contours")
    if abs(np.log(values.shape[0] * size[1] / (values.shape[1] * size[0]))) > _MAX_STRETCH + 1 / min(size):
        raise UserError(f"{path}: {values.shape} has another aspect than its image {tuple(size)}; create it again")
    with np.errstate(over="ignore"):  # infinity is refused below
        strength: NDArray[np.float32] = values.astype(np.float32)
    if values.dtype.kind in "ui":  # Pillow reads 16-bit gray as int32 in some versions
        strength /= 255 if values.dtype.itemsize == 1 else 65535
    if not np.isfinite(strength).all() or strength.min() < 0 or strength.max() > 1:
        raise UserError(f"{path}: values from {values.min()} to {values.max()}; give floats in [0, 1]")
    return strength if strength.shape == tuple(size) else np.clip(_resize(strength, size), 0, 1)
