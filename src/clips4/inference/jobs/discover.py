"""What `clips4 unknown` writes: discovered unknown classes as JSON, crops, and a page that shows them."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from clips4.data.image_folder import Skipped
from clips4.inference.discovery import UnknownClass, discover
from clips4.inference.segmenter import Segmenter
from clips4.outputs.render import percent
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import encode_png
from clips4.utils.progress import ProgressReporter

DOCUMENT, PAGE, CROPS = "unknown.json", "index.html", "crops"

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.4rem;margin-bottom:.2rem}p{margin:.2rem 0 1rem;color:#555}
section{border-top:1px solid #ddd;padding:.8rem 0}h2{font-size:1.05rem;margin:0}h2 small{color:#666;font-weight:400}
.crops{display:flex;flex-wrap:wrap;gap:.6rem}figure{margin:0}img{height:150px;border-radius:3px;display:block}
figcaption{font-size:.8rem;color:#555;max-width:240px;overflow-wrap:anywhere}li{display:inline;margin-right:.9rem}
ul{padding:0;margin:.1rem 0 .5rem}
"""


def unknown_files(
    segmenter: Segmenter,
    paths: Sequence[Path],
    out: Path,
    names: int,
    examples: int,
    classes: str | None,
    progress: ProgressReporter,
) -> tuple[list[UnknownClass], list[Skipped]]:
    """Gather the unknown of pictures and write it to a folder; each file appears whole or not at all.

    Returns:
        The classes, and the pictures that could not be read, with the reason.

    Raises:
        UserError: nothing can be unknown to the run, or no picture can be read.
    """
    skipped: list[Skipped] = []
    found = discover(segmenter, paths, names, examples, progress, skipped, classes=classes)
    for unknown in found:
        for number, shown in enumerate(unknown.examples):
            write_atomically(out / crop_path(unknown, number), encode_png(shown.crop))
    document = {"pictures": len(paths) - len(skipped), "classes": [describe(each) for each in found]}
    write_atomically(out / DOCUMENT, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    write_atomically(out / PAGE, page(found, len(paths) - len(skipped)).encode())
    return found, skipped


def crop_path(unknown: UnknownClass, number: int) -> Path:
    """Where the crop of an example is, from the folder of the page."""
    return Path(CROPS) / f"unknown{unknown.number + 1:03}-{number + 1}.png"


def describe(unknown: UnknownClass) -> dict[str, object]:
    """An unknown class, JSON-ready; ``unknown`` counts from 1, as names of people's eyes do."""
    return {
        "unknown": unknown.number + 1,
        "names": [{"name": name, "score": round(score, 4)} for name, score in unknown.names],
        "share": round(unknown.share, 6),
        "pictures": unknown.images,
        "examples": [
            {
                "file": shown.source,
                "box": list(shown.box),
                "pixels": shown.pixels,
                "similarity": round(shown.similarity, 4),
                "crop": crop_path(unknown, number).as_posix(),
            }
            for number, shown in enumerate(unknown.examples)
        ],
    }


def page(found: Sequence[UnknownClass], images: int) -> str:
    """HTML: a section for each class that occurs, with its suggested names and crops (files beside the page)."""
    sections = ""
    for unknown in found:
        if not unknown.examples:
            continue
        names = "".join(f"<li>{escape(name)} <small>{score:.2f}</small></li>" for name, score in unknown.names)
        crops = "".join(
            f'<figure><img loading="lazy" src="{crop_path(unknown, number).as_posix()}" '
            f'alt="unknown {unknown.number + 1} in {escape(shown.source)}">'
            f"<figcaption>{escape(Path(shown.source).name)}</figcaption></figure>"
            for number, shown in enumerate(unknown.examples)
        )
        sections += (
            f"<section><h2>unknown {unknown.number + 1} <small>{escape(percent(unknown.share))} of all pixels, "
            f"{unknown.images} pictures</small></h2><ul>{names}</ul>"
            f'<div class="crops">{crops}</div></section>'
        )
    absent = sum(not unknown.examples for unknown in found)
    rest = f"<p>{absent} more unknown classes occur in none of these pictures.</p>" if absent else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Unknown classes</title><style>{_STYLE}</style></head><body><h1>Unknown classes</h1>"
        f"<p>What the run discovered and none of its classes fits, in {images} pictures. The names are suggestions: "
        f"words of a vocabulary that lie nearest.</p>{sections}{rest}</body></html>\n"
    )
