"""Visually coherent regions, fixed before training."""

from clips4.regions.cache import RegionCache
from clips4.regions.superpixels import superpixels

__all__ = ["RegionCache", "superpixels"]
