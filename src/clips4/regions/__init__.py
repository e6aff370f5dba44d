"""Visually coherent regions, fixed before training."""

from clips4.regions.cache import RegionCache
from clips4.regions.contours import find_contours
from clips4.regions.superpixels import superpixels
from clips4.regions.ucm import Hierarchy, owt_ucm

__all__ = ["Hierarchy", "RegionCache", "find_contours", "owt_ucm", "superpixels"]
