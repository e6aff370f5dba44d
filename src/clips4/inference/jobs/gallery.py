"""The gallery of a folder: one page of thumbnails, the picture and its answer by turns, that filters and sorts.

The page holds no picture: thumbnails are files beside it, and a browser reads those that are looked at. It is written
from records, one after the other, so that its length is bounded by the disk alone. Words and style: ``assets/gallery``.
"""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from clips4.data.class_names import ASSETS, UNKNOWN
from clips4.inference.jobs.manifest import ManifestEntry
from clips4.outputs.render import percent
from clips4.utils.atomic_io import whole_file
from clips4.utils.images import UNKNOWN_COLOR

SHOWN = 6  # classes named below a picture


def write_gallery(path: Path, records: Callable[[], Iterable[ManifestEntry]], names: Sequence[str]) -> None:
    """Write the page.

    Args:
        path: of the page; thumbnails lie in ``gallery/`` beside it.
        records: gives the pictures, anew at each call (they are read twice).
        names: the asked classes.
    """
    folder = ASSETS.joinpath("gallery")
    colors: dict[str, str] = {}
    images, shares, count = [0] * (len(names) + 1), [0.0] * (len(names) + 1), 0
    for record in records():
        count += 1
        for place, area in _areas(record, names):
            images[place] += 1
            shares[place] += area["share"]
            colors[area["name"]] = area["colour"]
    order = sorted((i for i in range(len(names)) if images[i]), key=lambda i: -shares[i])
    options = "".join(
        f'<label><input type="checkbox" value="{i}">{_swatch(colors[names[i]])}{escape(names[i])} '
        f"<small>in {images[i]}, {escape(percent(shares[i] / count))}</small></label>"
        for i in order
    )
    page = Template(folder.joinpath("page.html").read_text("utf-8")).substitute(
        style=folder.joinpath("page.css").read_text("utf-8"),
        script=folder.joinpath("page.js").read_text("utf-8"),
        count=count,
        asked=len(names),
        unknown=escape(percent(shares[-1] / count if count else 0.0)),
        unknown_swatch=_swatch("#{:02x}{:02x}{:02x}".format(*UNKNOWN_COLOR)),
        classes=options,
        cards="\0",
    )
    head, tail = page.split("\0")
    with whole_file(path) as file:
        file.write(head)
        for record in records():
            file.write(card(record, names))
        file.write(tail)


def _areas(record: ManifestEntry, names: Sequence[str]) -> list[tuple[int, dict]]:  # type: ignore[type-arg]
    """Place among the names (the last place is the unknown's) and description of each class of a picture."""
    places = {name: place for place, name in enumerate((*names, UNKNOWN))}
    return [(places[area["name"]], area) for area in record["facts"]["areas"]]


def card(record: ManifestEntry, names: Sequence[str]) -> str:
    """A picture on the page: two thumbnails of which one is seen, file name, and its largest classes."""
    facts, stem = record["facts"], record["stem"]
    areas = _areas(record, names)
    unknown = sum(area["share"] for place, area in areas if place == len(names))
    known = sorted((each for each in areas if each[0] < len(names)), key=lambda each: -each[1]["share"])
    listed = "".join(
        f"<li>{_swatch(area['colour'])}{escape(area['name'])} {escape(percent(area['share']))}</li>"
        for _, area in known[:SHOWN]
    )
    more = f"<li>{len(known) - SHOWN} more</li>" if len(known) > SHOWN else ""
    data = " ".join(f"{place}:{area['share']:.4f}" for place, area in known)
    title, url = escape(Path(record["source"]).name), quote(stem)
    whole = next((name for name in record["files"] if name == f"{stem}_overlay.png"), f"gallery/{stem}_overlay.jpg")
    size = f'width="{facts["width"]}" height="{facts["height"]}" loading="lazy" decoding="async"'
    return (
        f'<figure data-unknown="{unknown:.4f}" data-classes="{data}"><a href="{quote(whole)}">'
        f'<img class="answer" src="gallery/{url}_overlay.jpg" {size} alt="Answer for {title}">'
        f'<img class="picture" src="gallery/{url}.jpg" {size} alt="{title}"></a>'
        f"<figcaption><b>{title}</b><span>unknown {escape(percent(unknown))}</span><ul>{listed}{more}</ul>"
        f"</figcaption></figure>\n"
    )


def _swatch(color: str) -> str:
    return f'<span class="swatch" style="background:{color}"></span>'
