"""A page that shows one picture's hierarchy at several levels; it loads nothing from elsewhere."""

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clips4.config import RegionConfig
from clips4.outputs.charts import mean_colors, outlined
from clips4.regions.ucm import Hierarchy
from clips4.utils.images import RGB, reduce_to

LEVELS = (2, 4, 8, 16, 32, 48, 100, 200)
_SIDE = 640  # pixels, long side of the pictures on the page

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1200px;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.4rem;margin-bottom:.2rem}p{margin:.2rem 0 1.2rem;color:#555}
.row{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:1rem}
figure{margin:0}figcaption{font-size:.9rem;color:#444}img{width:100%;height:auto;display:block;border-radius:3px}
.level{display:grid;grid-template-columns:1fr 1fr;gap:4px}h2{font-size:1.05rem;margin:1.6rem 0 .5rem}
"""


def hierarchy_page(
    image: RGB, hierarchy: Hierarchy, chosen: NDArray[np.int32], name: str, settings: RegionConfig
) -> str:
    """HTML: the picture, its ultrametric contour map, the regions that the settings choose, and ``LEVELS`` of the rest.

    Args:
        image: (H, W, 3) uint8.
        hierarchy: of the picture.
        chosen: (H, W) the regions at the settings' count and threshold.
        name: of the picture.
        settings: how the hierarchy was made.
    """
    height, width = image.shape[:2]
    # the doubled grid at the picture's size: of each pixel and its right, lower and corner neighbours the strongest
    strengths = hierarchy.to_ucm2()[1:, 1:].reshape(height, 2, width, 2).max((1, 3))
    # dark where contours are strong; the square root lets weak ones be seen
    contour_map = np.repeat((255 * (1 - np.sqrt(np.clip(strengths, 0, 1))))[..., None], 3, 2).astype(np.uint8)
    top = [
        (_img(image, "the picture"), escape(name)),
        (_img(contour_map, "ultrametric contour map"), "ultrametric contour map: the darker, the longer it stays"),
        (_img(outlined(image, chosen), "chosen regions"), f"the {chosen.max() + 1} regions that were chosen"),
    ]
    levels = ""
    for count in [level for level in LEVELS if level <= hierarchy.count]:
        regions = hierarchy.at_count(count)
        low = float(hierarchy.heights[hierarchy.count - count - 1]) if count < hierarchy.count else 0.0
        high = float(hierarchy.heights[hierarchy.count - count])
        images = _img(outlined(image, regions), f"{count} regions") + _img(mean_colors(image, regions), "mean colours")
        levels += (
            f'<figure><div class="level">{images}</div>'
            f"<figcaption>{count} regions: thresholds {low:.3f} to {high:.3f}</figcaption></figure>"
        )
    shown = "".join(f"<figure>{img}<figcaption>{text}</figcaption></figure>" for img, text in top)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Regions of {escape(name)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Regions of {escape(name)}</h1>"
        f"<p>{escape(settings.method)}: {hierarchy.count} leaves, joined two by two where the contour between them is "
        f'weakest.</p><div class="row">{shown}</div><h2>Levels, from coarse to fine</h2><div class="row">{levels}</div>'
        "</body></html>\n"
    )


def _img(image: RGB, alt: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(reduce_to(image, _SIDE)).save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{data}">'
