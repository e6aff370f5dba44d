"""What is written for one result: label PNG, overlay with legend, JSON. Further formats: see ``answers``."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clips4.errors import UserError
from clips4.inference.segmenter import UNKNOWN_LABEL, Segmentation
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import RGB, UNKNOWN_COLOR, blend, boundaries, color_labels, encode_png, palette

Kind = Literal["png", "overlay", "json", "coco", "panoptic", "yolo", "npz", "gallery"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_OF_ONE_RESULT: tuple[Kind, ...] = ("png", "overlay", "json")
UNKNOWN_VALUE = {"8-bit": 255, "16-bit": 65535}  # value of unknown pixels in a label PNG
_LONG_LEGEND, _SMALL_SHARE = 12, 0.005  # a legend of more entries leaves out what is smaller
_WHITE = (255, 255, 255)
_MIN_OVERLAY_SIDE = 240  # pixels; smaller pictures are enlarged so that the legend can be read


def parse_kinds(text: str) -> tuple[Kind, ...]:
    """``png,overlay,json`` -> kinds.

    Raises:
        UserError: another word.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in KINDS:
            raise UserError(f"--save {word!r}: give some of {', '.join(KINDS)}")
    if not words:
        raise UserError(f"--save is empty; give some of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in words)


def output_stems(paths: Sequence[Path]) -> list[str]:
    """A file name without suffix for each picture, all different: the stem, with its folder's and suffix's name where
    stems collide."""
    stems = [path.stem for path in paths]
    for longer in (lambda p: f"{p.stem}_{p.suffix[1:]}", lambda p: f"{p.parent.name}_{p.stem}_{p.suffix[1:]}"):
        counts = Counter(stem.casefold() for stem in stems)
        stems = [longer(p) if counts[s.casefold()] > 1 else s for p, s in zip(paths, stems, strict=True)]
    counts = Counter(stem.casefold() for stem in stems)
    return [f"{s}_{n}" if counts[s.casefold()] > 1 else s for n, s in enumerate(stems)]


def save_segmentation(result: Segmentation, source: str, folder: Path, stem: str, kinds: Sequence[Kind]) -> list[Path]:
    """Write the chosen files of one picture to ``folder``; each appears whole or not at all.

    ``STEM.png``: labels, values are indices into the asked classes, 255 unknown (a 16-bit grey PNG and 65535 with more
    than 255 classes). ``STEM_overlay.png``: the picture under its colours, with a legend. ``STEM.json``: areas.

    Returns:
        The paths written.

    Raises:
        UserError: a kind that belongs to a folder of results.
    """
    if others := [kind for kind in kinds if kind not in _OF_ONE_RESULT]:
        raise UserError(f"{others[0]!r} is not saved for one result; `clips4 segment --save {others[0]}` writes it")
    written = []
    for name, content in segmentation_files(result, source, stem, kinds).items():
        write_atomically(folder / name, content)
        written.append(folder / name)
    return written


def segmentation_files(result: Segmentation, source: str, stem: str, kinds: Sequence[Kind]) -> dict[str, bytes]:
    """Name -> content of the files that ``save_segmentation`` writes; other kinds are passed over."""
    files: dict[str, bytes] = {}
    if "png" in kinds:
        files[f"{stem}.png"] = label_png(result)
    if "overlay" in kinds:
        files[f"{stem}_overlay.png"] = encode_png(overlay_with_legend(result))
    if "json" in kinds:
        files[f"{stem}.json"] = (json.dumps(describe(result, source), indent=2) + "\n").encode()
    return files


def _depth(result: Segmentation) -> str:
    return "8-bit" if len(result.names) <= UNKNOWN_VALUE["8-bit"] else "16-bit"


def label_png(result: Segmentation) -> bytes:
    """PNG bytes of the label map at the picture's size."""
    depth = _depth(result)
    values = np.where(result.labels == UNKNOWN_LABEL, UNKNOWN_VALUE[depth], result.labels)
    if depth == "16-bit":
        return encode_png(values.astype(np.uint16))
    colors = np.full((256, 3), UNKNOWN_COLOR, np.uint8)
    colors[: len(result.names)] = palette(len(result.names))
    return encode_png(values.astype(np.uint8), colors.tolist())


def describe(result: Segmentation, source: str) -> dict[str, object]:
    """JSON-ready description of a result: size, what each name was answered by, the unknown share by discovered unknown
    class, and per class its value in the PNG, colour, area and mean cosine."""
    height, width = result.labels.shape
    colors = palette(len(result.names))
    unknown = UNKNOWN_VALUE[_depth(result)]
    discovered = [
        {"name": area.name, "pixels": area.pixels, "share": round(area.share, 6)} for area in result.unknown_areas()
    ]
    return {
        "file": source,
        "width": width,
        "height": height,
        "asked": list(result.names),
        **({"answered_by": dict(zip(result.names, result.sources, strict=True))} if result.sources else {}),
        "unknown_share": round(result.unknown_share, 6),
        **({"unknown": discovered} if result.unknown_labels is not None else {}),
        "areas": [
            {
                "name": area.name,
                "value": area.label if area.label >= 0 else unknown,
                "colour": "#{:02x}{:02x}{:02x}".format(*(colors[area.label] if area.label >= 0 else UNKNOWN_COLOR)),
                "pixels": area.pixels,
                "share": round(area.share, 6),
                "mean_cosine": round(float(result.similarity[result.labels == area.label].mean()), 4),
            }
            for area in result.areas()
        ],
    }


def overlay(result: Segmentation, alpha: float = 0.55) -> RGB:
    """(H, W, 3) the picture under its class colours, with white lines between classes; unknown is grey."""
    colors = color_labels(result.labels, palette(len(result.names)))
    return blend(result.image, colors, alpha, boundaries(result.labels))


def overlay_with_legend(result: Segmentation) -> RGB:
    """The overlay with a panel of names, areas and the unknown share: beside an upright picture, below a wide one."""
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


def legend_entries(result: Segmentation) -> list[tuple[str, tuple[int, int, int]]]:
    """Text and colour of each class that occurs, largest first, then the unknown share, which is always there.

    Where many classes occur, those of less than half a percent share one entry.
    """
    colors = palette(len(result.names))
    known = [area for area in result.areas() if area.label != UNKNOWN_LABEL]
    small = [area for area in known if area.share < _SMALL_SHARE] if len(known) > _LONG_LEGEND else []
    entries: list[tuple[str, tuple[int, int, int]]] = []
    for area in known[: len(known) - len(small)]:
        red, green, blue = (int(value) for value in colors[area.label])
        entries.append((f"{area.name} {percent(area.share)}", (red, green, blue)))
    if small:
        entries.append((f"{len(small)} more, together {percent(sum(area.share for area in small))}", _WHITE))
    return [*entries, (f"unknown {percent(result.unknown_share)}", UNKNOWN_COLOR)]


def percent(share: float) -> str:
    """A share in [0, 1] for people."""
    return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def draw_legend(
    entries: Sequence[tuple[str, tuple[int, int, int]]], length: int, beside: bool, size: int | None = None
) -> RGB:
    """A white panel of swatches and texts: one column where it stands beside a picture, else in lines that fill
    ``length`` pixels. ``size`` is that of the letters in pixels; by default it goes with the length."""
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
    """DejaVu Sans, which comes with matplotlib and writes most scripts."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def _pad(image: NDArray[np.uint8], height: int, width: int) -> RGB:
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas
