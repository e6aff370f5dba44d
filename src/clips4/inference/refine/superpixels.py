"""Labels aligned with the image's own edges: scores are averaged over each superpixel."""

import torch
from numpy.typing import NDArray
from torch import Tensor

from clips4.config import RegionConfig
from clips4.inference.upsample import upsampled_bands
from clips4.regions.cache import RegionCache
from clips4.utils.images import RGB, reduce_to

SIDE = 1024  # long side at which superpixels are made; those of larger images are enlarged
REGIONS = RegionConfig(method="felzenszwalb", count=200)


def image_regions(image: RGB, settings: RegionConfig = REGIONS) -> NDArray:  # type: ignore[type-arg]
    """(h, w) superpixels 0..R-1 of an image (H, W, 3), reduced to ``SIDE``."""
    return RegionCache(settings)(reduce_to(image, SIDE))


@torch.no_grad()
def region_scores(scores: Tensor, regions: Tensor) -> Tensor:
    """(R, L) mean over each region of the scores (L, h, w), upsampled to the regions' (H, W)."""
    count = int(regions.max()) + 1
    sums = scores.new_zeros(count, len(scores))
    for place, large in upsampled_bands(scores, regions.shape):
        sums.index_add_(0, regions[place].flatten(), large.flatten(1).T)
    return sums / torch.bincount(regions.flatten(), minlength=count).clamp(min=1)[:, None].to(sums)


@torch.no_grad()
def region_class(scores: Tensor, image: RGB, settings: RegionConfig = REGIONS) -> tuple[Tensor, Tensor]:
    """One class for each superpixel: that of the largest mean score.

    Args:
        scores: (L, h, w).
        image: (H, W, 3) uint8.
        settings: how superpixels are made.

    Returns:
        (H, W) int64 labels 0..L-1 and (H, W) the mean score of each pixel's label.
    """
    regions = torch.from_numpy(image_regions(image, settings)).long().to(scores.device)
    best, labels = region_scores(scores, regions).max(1)
    height, width = image.shape[:2]
    rows = torch.arange(height, device=scores.device) * regions.shape[0] // height
    columns = torch.arange(width, device=scores.device) * regions.shape[1] // width
    at_image = regions[rows][:, columns]
    return labels[at_image], best[at_image]
