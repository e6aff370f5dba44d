"""The gallery of a folder: one page of thumbnails, image and prediction in turn, that filters and sorts.

The page holds no image: thumbnails are files beside it, and a browser loads those in view. The manifest entries are
written one after the other, so that memory does not grow with the number of images.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import quote_from_bytes

from clips4.data.class_names import UNKNOWN
from clips4.outputs.page import css_color, stream_page
from clips4.utils.atomic_io import atomic_text_file
from clips4.utils.images import UNKNOWN_COLOR
from clips4.utils.output_folder.manifest import ManifestEntry

SHOWN = 6  # classes named below an image


def write_gallery(path: Path, entries: Callable[[], Iterable[ManifestEntry]], names: Sequence[str]) -> None:
    """Write the page.

    Args:
        path: of the page; thumbnails are in ``gallery/`` beside it.
        entries: gives the images, anew at each call (they are read twice).
        names: the class names of the query.
    """
    colors: dict[str, str] = {}
    images, shares, count = [0] * (len(names) + 1), [0.0] * (len(names) + 1), 0
    for entry in entries():
        count += 1
        for index, area in _areas(entry, names):
            images[index] += 1
            shares[index] += area["share"]
            colors[area["name"]] = area["color"]
    order = sorted((i for i in range(len(names)) if images[i]), key=lambda i: -shares[i])
    parts = stream_page(
        "gallery",
        count=count,
        queried=len(names),
        names=names,
        unknown=shares[-1] / max(count, 1),
        unknown_color=css_color(UNKNOWN_COLOR),
        classes=[
            {"index": i, "name": names[i], "color": colors[names[i]], "images": images[i], "share": shares[i] / count}
            for i in order
        ],
        cards=(card(entry, names) for entry in entries()),
    )
    with atomic_text_file(path) as file:
        file.writelines(parts)


def _areas(entry: ManifestEntry, names: Sequence[str]) -> list[tuple[int, dict]]:  # type: ignore[type-arg]
    """Index among the names (one past the last for unknown) and description of each class of an image."""
    indices = {name: index for index, name in enumerate((*names, UNKNOWN))}
    return [(indices[area["name"]], area) for area in entry["facts"]["areas"]]


def card(entry: ManifestEntry, names: Sequence[str]) -> dict[str, object]:
    """An image on the page: two thumbnails of which one is shown, file name, and its largest classes."""
    facts, stem = entry["facts"], entry["stem"]
    areas = _areas(entry, names)
    known = sorted((each for each in areas if each[0] < len(names)), key=lambda each: -each[1]["share"])
    overlay = f"gallery/{stem}_overlay.jpg"
    return {
        "title": Path(entry["source"]).name,
        "grid": facts["grid"],
        "width": facts["width"],
        "height": facts["height"],
        "unknown": sum(area["share"] for index, area in areas if index == len(names)),
        "shares": " ".join(f"{index}:{area['share']:.4f}" for index, area in known),
        "link": _link(next((name for name in entry["files"] if name == f"{stem}_overlay.png"), overlay)),
        "thumbnails": (("prediction", _link(overlay)), ("image", _link(f"gallery/{stem}.jpg"))),
        "largest": [area for _, area in known[:SHOWN]],
        "more": max(0, len(known) - SHOWN),
    }


def _link(name: str) -> str:
    return quote_from_bytes(os.fsencode(name))  # a name need not be text
