"""YOLO's segmentation format: a line per connected part, "class x y x y ...", coordinates as shares of the image.

The layout is that of a training set: ``images/`` (links to the images, copies, or nothing), ``labels/``,
``data.yaml``. A line is one polygon, with holes joined to it (see ``polygons``). Classes are indices into the class
names, from 0; unknown pixels are background.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from clips4.outputs.labeled_image import MIN_SHARE, connected_parts
from clips4.outputs.polygons import TOLERANCE, polygon_of
from clips4.utils.atomic_io import atomic_file


def yolo_lines(labels: NDArray[np.integer], min_share: float = MIN_SHARE, tolerance: float = TOLERANCE) -> str:
    """The label file of one image; empty if all its parts are unknown or small.

    Args:
        labels: (H, W) indices of classes, -1 for unknown.
        min_share: connected parts of a smaller share of the image are left out.
        tolerance: see ``polygons.outlines``.
    """
    height, width = labels.shape
    lines = []
    for part in connected_parts(labels, min_share * labels.size)[1]:
        points = (polygon_of(part.mask, tolerance) + np.array([part.left, part.top])) / (width, height)
        lines.append(f"{part.label} " + " ".join(f"{value:.7g}" for value in points.clip(0, 1).ravel()) + "\n")
    return "".join(lines)


def data_yaml(folder: Path, names: Sequence[str]) -> str:
    """``data.yaml`` of a folder; train and val are the same images, since no other split is known."""
    content = {"path": str(folder.resolve()), "train": "images", "val": "images", "names": dict(enumerate(names))}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def place_image(source: Path, target: Path, copy: bool = False) -> None:
    """Make an image appear under another name: by a link, or a copy if wanted and on systems without links."""
    with atomic_file(target) as beside:
        try:
            if copy:
                shutil.copyfile(source, beside)
            else:
                beside.symlink_to(source.resolve())
        except OSError:
            shutil.copyfile(source, beside)
