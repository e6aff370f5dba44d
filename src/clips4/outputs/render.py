"""Overlays and legends: an image under the colors of its classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clips4.outputs.class_colors import class_colors
from clips4.outputs.labeled_image import UNKNOWN_LABEL, LabeledImage
from clips4.utils.images import RGB, UNKNOWN_COLOR, blend, boundaries, color_labels
from clips4.utils.text import percent

_LONG_LEGEND, _SMALL_SHARE = 12, 0.005  # a longer legend joins the classes of a smaller share into one entry
_WHITE = (255, 255, 255)
_MIN_OVERLAY_SIDE = 240  # pixels; smaller images are enlarged so that the legend can be read


def overlay(result: LabeledImage, alpha: float = 0.55) -> RGB:
    """(H, W, 3) the image under its class colors, with white lines between classes; unknown pixels are gray."""
    colors = color_labels(result.labels, class_colors(result.names))
    return blend(result.image, colors, alpha, boundaries(result.labels))


def overlay_with_legend(result: LabeledImage) -> RGB:
    """The overlay with a panel of names, areas and the unknown share: beside an upright image, below a wide one."""
    image = overlay(result)
    factor = -(-_MIN_OVERLAY_SIDE // min(image.shape[:2])) if min(image.shape[:2]) < _MIN_OVERLAY_SIDE else 1
    if factor > 1 and max(image.shape[:2]) * factor <= 8 * _MIN_OVERLAY_SIDE:
        image = image.repeat(factor, 0).repeat(factor, 1)
    entries = legend_entries(result)
    height, width = image.shape[:2]
    panel = draw_legend(entries, height, beside=True) if height >= width else draw_legend(entries, width, beside=False)
    if height >= width:
        panel = _pad(panel, max(height, panel.shape[0]), panel.shape[1])
        return np.concatenate([_pad(image, panel.shape[0], width), panel], 1)
    panel = _pad(panel, panel.shape[0], max(width, panel.shape[1]))
    return np.concatenate([_pad(image, height, panel.shape[1]), panel], 0)


def legend_entries(result: LabeledImage) -> list[tuple[str, tuple[int, int, int]]]:
    """Text and color of each class that occurs, largest first, then the unknown share, if there is one.

    If many classes occur, those of less than half a percent share one entry.
    """
    colors = class_colors(result.names)
    known = [area for area in result.areas() if area.label != UNKNOWN_LABEL]
    small = [area for area in known if area.share < _SMALL_SHARE] if len(known) > _LONG_LEGEND else []
    entries: list[tuple[str, tuple[int, int, int]]] = []
    for area in known[: len(known) - len(small)]:
        red, green, blue = (int(value) for value in colors[area.label])
        entries.append((f"{area.name} {percent(area.share)}", (red, green, blue)))
    if small:
        entries.append((f"{len(small)} more, together {percent(sum(area.share for area in small))}", _WHITE))
    share = result.unknown_share
    return [*entries, *([(f"unknown {percent(share)}", UNKNOWN_COLOR)] if share else [])]


def draw_legend(
    entries: Sequence[tuple[str, tuple[int, int, int]]], length: int, beside: bool, size: int | None = None
) -> RGB:
    """A white panel of color swatches and texts.

    Args:
        entries: text and color of each.
        length: of the image's adjacent side, in pixels.
        beside: one column for the side of an image; otherwise rows of at most ``length`` pixels.
        size: font size in pixels; depends on ``length`` by default.
    """
    size = size or int(np.clip(length / 32, 12, 40))
    font = legend_font(size)
    gap, line = size // 2, round(size * 1.6)
    widths = [2 * gap + size + int(font.getlength(text)) + gap for text, _ in entries]
    places: list[tuple[int, int]] = []
    x, y = 0, gap
    for width in widths:
        if places and (beside or x + width > length):
            x, y = 0, y + line
        places.append((x, y))
        x += width
    across = max(widths) + gap if beside else max(length, *widths)
    panel = Image.new("RGB", (across, y + line + gap // 2), "white")
    draw = ImageDraw.Draw(panel)
    for (text, color), (x, y) in zip(entries, places, strict=True):
        draw.rectangle((x + gap, y, x + gap + size, y + size), fill=color, outline=(120, 120, 120))
        draw.text((x + 2 * gap + size, y + size / 2), text, fill="black", font=font, anchor="lm")
    return np.array(panel)


def legend_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and covers most scripts."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def _pad(image: NDArray[np.uint8], height: int, width: int) -> RGB:
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas
