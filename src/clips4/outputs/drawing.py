"""Labels drawn over an image: outlines, mean colors, class colors, crops."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from clips4.outputs.render import legend_font
from clips4.utils.images import RGB, blend, boundaries, color_labels


def outlined(image: RGB, labels: NDArray[np.integer]) -> RGB:
    """(H, W, 3) the image with white lines between labels, in a dark border so that they show on white too."""
    edges = boundaries(labels)
    dark = ndimage.binary_dilation(edges, np.ones((3, 3)))
    shaded = np.where(dark[..., None], image * 0.55, image).astype(np.uint8)
    return blend(shaded, shaded, 0, edges)


def mean_colors(image: RGB, labels: NDArray[np.integer]) -> RGB:
    """(H, W, 3) each label in the mean color of its pixels, with white lines between."""
    flat, pixels = labels.ravel(), image.reshape(-1, 3)
    sums = np.stack([np.bincount(flat, pixels[:, channel]) for channel in range(3)], 1)
    means = (sums / np.maximum(np.bincount(flat), 1)[:, None])[labels].astype(np.uint8)
    return blend(means, means, 0, boundaries(labels))


def painted(image: RGB, labels: NDArray[np.integer], colors: NDArray[np.uint8], numbered_from: int) -> RGB:
    """(H, W, 3) the image in gray under the colors of its labels; those from ``numbered_from`` on bear u0, ..."""
    gray = np.array(Image.fromarray(image).convert("L").convert("RGB"))
    canvas = Image.fromarray(blend(gray, color_labels(labels, colors), 0.62, boundaries(labels)))
    draw, font = ImageDraw.Draw(canvas), legend_font(max(10, max(labels.shape) // 24))
    for label in np.unique(labels[labels >= numbered_from]):
        mask = np.pad(labels == label, 1)
        depth = ndimage.distance_transform_edt(mask)[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        if depth[y, x] > font.size * 0.7:
            name = f"u{label - numbered_from}"
            draw.text((x, y), name, "white", font, "mm", stroke_width=2, stroke_fill="black")
    return np.array(canvas)


def best_crop(image: RGB, own: NDArray[np.bool_]) -> RGB:
    """A square (side, side, 3) of the image where the (H, W) mask is densest; pixels outside the mask are pale."""
    side = max(8, round(0.45 * min(own.shape)))
    density = ndimage.uniform_filter(own.astype(np.float32), side, mode="constant")
    y, x = np.unravel_index(density.argmax(), density.shape)
    top, left = (min(max(0, at - side // 2), length - side) for at, length in zip((y, x), own.shape, strict=True))
    window = np.s_[top : top + side, left : left + side]
    pale = blend(image[window], np.full((side, side, 3), 255, np.uint8), 0.75)
    return np.where(own[window][..., None], image[window], pale)
