"""Ultrametric contour maps as published with BSDS500: read from .mat files, and turned into hierarchies."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.ndimage import label

from clips4.regions.ucm import Hierarchy
from clips4.regions.watershed import boundary_cracks


def read_ucm2(path: Path) -> NDArray[np.float64]:
    """The ultrametric contour map (2 H + 1, 2 W + 1) in a .mat file."""
    ucm2: NDArray[np.float64] = loadmat(path)["ucm2"]
    return ucm2


def from_ucm2(ucm2: NDArray[np.floating]) -> Hierarchy:
    """The hierarchy in an ultrametric contour map on the doubled grid.

    Pixels are one leaf where only 0 lies between them; leaves are joined at the least value that separates them
    (Kruskal's spanning tree).

    Args:
        ucm2: (2 H + 1, 2 W + 1), at least 0.
    """
    if ucm2.ndim != 2 or any(side < 3 or side % 2 == 0 for side in ucm2.shape):
        raise ValueError(f"expected an ultrametric contour map (2 H + 1, 2 W + 1), got {ucm2.shape}")
    inside = ucm2[1:-1, 1:-1].astype(np.float32)
    open_ways = inside <= 0
    open_ways[::2, ::2] = True
    open_ways[1::2, 1::2] = False  # a corner is no way from pixel to pixel
    parts: NDArray[np.integer] = label(open_ways)[0][::2, ::2]
    leaves = np.unique(parts, return_inverse=True)[1].reshape(parts.shape).astype(np.int32)
    cracks = boundary_cracks(leaves)
    width = leaves.shape[1]
    y, x = np.divmod(cracks.pixels, width)
    values = inside[y.sum(1), x.sum(1)]
    sides = leaves.ravel()[cracks.pixels]
    count = int(leaves.max()) + 1
    root = list(range(count))

    def find(a: int) -> int:
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        return a

    node, merges, heights = list(range(count)), [], []
    order = np.argsort(values, kind="stable")
    for (a, b), height in zip(sides[order].tolist(), values[order].tolist(), strict=True):
        a, b = find(a), find(b)
        if a != b:
            merges.append((node[a], node[b]))
            heights.append(height)
            root[b] = a
            node[a] = count + len(merges) - 1
    return Hierarchy(leaves, np.array(merges, np.int32).reshape(-1, 2), np.array(heights, np.float32))
