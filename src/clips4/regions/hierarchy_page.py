"""A page that shows the hierarchy of one image at several levels; it loads nothing from elsewhere."""

import numpy as np
from numpy.typing import NDArray

from clips4.config import RegionConfig
from clips4.outputs.drawing import mean_colors, outlined
from clips4.outputs.page import page_grid, page_image, render_page
from clips4.regions.ucm import Hierarchy
from clips4.utils.images import RGB

LEVELS = (2, 4, 8, 16, 32, 48, 100, 200)
_SIDE = 640  # pixels, long side of the images on the page


def hierarchy_page(
    image: RGB, hierarchy: Hierarchy, chosen: NDArray[np.int32], name: str, settings: RegionConfig
) -> str:
    """HTML: the image, its ultrametric contour map, the regions that the settings choose, and the other ``LEVELS``.

    Args:
        image: (H, W, 3) uint8.
        hierarchy: of the image.
        chosen: (H, W) the regions at the count and threshold of the settings.
        name: of the image.
        settings: how the hierarchy was made.
    """
    height, width = image.shape[:2]
    # the doubled grid at the image's size: the strongest of each pixel and its right, lower and corner neighbors
    strengths = hierarchy.to_ucm2()[1:, 1:].reshape(height, 2, width, 2).max((1, 3))
    # dark where contours are strong; the square root makes weak ones visible
    contour_map = np.repeat((255 * (1 - np.sqrt(np.clip(strengths, 0, 1))))[..., None], 3, 2).astype(np.uint8)
    top = (
        (image, "the image", name),
        (contour_map, "ultrametric contour map", "ultrametric contour map: the darker, the longer it stays"),
        (outlined(image, chosen), "chosen regions", f"the {chosen.max() + 1} chosen regions"),
    )
    levels = []
    for count in [level for level in LEVELS if level <= hierarchy.count]:
        regions = hierarchy.at_count(count)
        low = float(hierarchy.heights[hierarchy.count - count - 1]) if count < hierarchy.count else 0.0
        levels.append(
            {
                "count": count,
                "outlines": page_image(outlined(image, regions), _SIDE),
                "means": page_image(mean_colors(image, regions), _SIDE),
                "grid": page_grid(regions),
                "low": low,
                "high": float(hierarchy.heights[hierarchy.count - count]),
            }
        )
    return render_page(
        "regions",
        name=name,
        method=settings.method,
        leaves=hierarchy.count,
        top=[(page_image(shown, _SIDE), alt, text) for shown, alt, text in top],
        levels=levels,
    )
