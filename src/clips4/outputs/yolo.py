"""YOLO's segmentation format: a line per connected part, "class x y x y ...", coordinates as shares of the picture.

The layout is that of a data set to train on: ``images/`` (links to the pictures), ``labels/``, ``data.yaml``. A line is
one polygon: holes are joined to it, see ``polygons``. Classes are the places of the asked names, from 0 on; what is
unknown is background.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from clips4.inference.segmenter import Segmentation
from clips4.outputs.coco import MIN_SHARE, connected_parts
from clips4.outputs.polygons import polygon_of
from clips4.utils.atomic_io import atomic_file

TOLERANCE = 0.5  # pixels that an outline may move by when it is simplified


def yolo_lines(result: Segmentation, min_share: float = MIN_SHARE, tolerance: float = TOLERANCE) -> str:
    """The label file of one picture; empty where nothing but unknown or small parts is there.

    Args:
        min_share: connected parts of a lesser share of the picture are left out.
        tolerance: see ``polygons.outlines``.
    """
    height, width = result.labels.shape
    lines = []
    for part in connected_parts(result.labels, min_share * result.labels.size):
        points = (polygon_of(part.mask, tolerance) + np.array([part.left, part.top])) / (width, height)
        lines.append(f"{part.label} " + " ".join(f"{value:.7g}" for value in points.clip(0, 1).ravel()) + "\n")
    return "".join(lines)


def data_yaml(folder: Path, names: Sequence[str]) -> str:
    """``data.yaml`` of a folder; train and val are the same pictures, for want of another division."""
    content = {"path": str(folder.resolve()), "train": "images", "val": "images", "names": dict(enumerate(names))}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def link_image(source: Path, link: Path) -> None:
    """Let a picture appear under another name: as a link, or a copy on systems that permit none."""
    with atomic_file(link) as beside:
        try:
            beside.symlink_to(source.resolve())
        except OSError:
            shutil.copyfile(source, beside)
