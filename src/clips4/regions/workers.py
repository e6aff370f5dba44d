"""Training images with their regions, made in this process or in several: decoding and contours take most of a pass."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clips4.data.image_folder import load_training_image, reason_to_skip
from clips4.regions.cache import RegionCache
from clips4.utils.images import RGB
from clips4.utils.parallel import map_items


class ImageWithRegions(NamedTuple):
    """An image of a set and its regions, or why it cannot be used.

    Attributes:
        number: of the image in the set.
        path: of its file.
        image: (H, W, 3) uint8, or the reason.
        regions: (H, W) labels; None of an image that cannot be used.
    """

    number: int
    path: Path
    image: RGB | str
    regions: NDArray[np.int32] | None


@dataclass(frozen=True)
class _Loading:
    """Decodes one image and makes its regions; sent to worker processes."""

    regions: RegionCache
    long_side: int

    def __call__(self, item: tuple[int, Path]) -> ImageWithRegions:
        number, path = item
        try:
            image = load_training_image(path, self.long_side)
        except Exception as error:
            return ImageWithRegions(number, path, reason_to_skip(error), None)
        return ImageWithRegions(number, path, image, self.regions(image, path))


def images_with_regions(
    items: Iterable[tuple[int, Path]], regions: RegionCache, long_side: int, workers: int
) -> Iterator[ImageWithRegions]:
    """Images in order, each with its regions; neither depends on the number of processes.

    Args:
        items: numbers and files.
        regions: makes and keeps the regions.
        long_side: to which images are reduced, in pixels.
        workers: processes; 0 or 1 does the work in this one.

    Raises:
        UserError: regions cannot be made, or a worker died.

    Example:
        >>> [each.regions.max() for each in images_with_regions(enumerate(paths), RegionCache(settings), 512, 8)]
    """
    work = _Loading(regions, long_side)
    return (found for _, found in map_items(work, items, max(1, workers), preload=[__name__]))
