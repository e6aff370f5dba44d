"""Region maps on disk: one 16-bit PNG per picture, named by the picture's content and the settings."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clips4.caching import cache_root, picture_key, settings_key
from clips4.config import RegionConfig
from clips4.images import RGB, encode_png, write_atomically
from clips4.regions.superpixels import superpixels


class RegionCache:
    """Region maps, computed once per picture and settings.

    Args:
        settings: how regions are made; another setting reads and writes other files.
        root: cache folder; ``caching.cache_root()`` by default.
    """

    def __init__(self, settings: RegionConfig, root: Path | None = None):
        self.settings = settings
        self.folder = (root or cache_root()) / "regions" / settings_key(settings.model_dump())

    def path(self, image: RGB) -> Path:
        """The file that holds this picture's regions, there or not."""
        return self.folder / f"{picture_key(image)}.png"

    def __call__(self, image: RGB) -> NDArray[np.int32]:
        """(H, W, 3) uint8 -> (H, W) regions 0..R-1, from the cache where a whole file of the right size is there."""
        path = self.path(image)
        cached = _read(path, image.shape[:2])
        if cached is not None:
            return cached
        regions = superpixels(image, self.settings.method, self.settings.count)
        if regions.max() > np.iinfo(np.uint16).max:
            raise ValueError(f"{regions.max() + 1} regions do not fit a 16-bit map; ask for fewer")
        write_atomically(path, encode_png(regions.astype(np.uint16)))
        return regions


def _read(path: Path, size: tuple[int, ...]) -> NDArray[np.int32] | None:
    """The map in the file; None where it is missing or damaged, so that it is made anew."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            regions = np.asarray(image).astype(np.int32)
    except (OSError, SyntaxError, ValueError):
        return None
    return regions if regions.shape == size else None
