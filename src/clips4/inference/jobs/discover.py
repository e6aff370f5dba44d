"""What `clips4 unknown` writes: discovered unknown classes as JSON, crops, and a page that shows them."""

import json
from collections.abc import Sequence
from pathlib import Path

from clips4.data.image_folder import SkippedImage
from clips4.inference.segmenter import Segmenter
from clips4.inference.unknown.discovery import UnknownClass, discover
from clips4.outputs.page import render_page
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import encode_png
from clips4.utils.output_folder.names import check_out_folder
from clips4.utils.output_folder.output import Output, check_command
from clips4.utils.progress import ProgressReporter

DOCUMENT, PAGE, CROPS = "unknown.json", "index.html", "crops"


def unknown_files(
    segmenter: Segmenter,
    paths: Sequence[Path],
    out: Path,
    names: int,
    examples: int,
    classes: str | None,
    progress: ProgressReporter,
) -> tuple[list[UnknownClass], list[SkippedImage]]:
    """Collect the unknown classes of images and write them to a folder; each file appears whole or not at all.

    Returns:
        The classes, and the unreadable images with the reason.

    Raises:
        UserError: the run has no unknown prototypes, no image can be read, or see ``Output.begin_whole``.
    """
    output = Output(out, "unknown", [], "")
    check_out_folder(out)
    check_command(output)
    skipped: list[SkippedImage] = []
    found = discover(segmenter, paths, names, examples, progress, skipped, classes=classes)
    crops = {
        crop_path(unknown, number).as_posix(): shown.crop
        for unknown in found
        for number, shown in enumerate(unknown.examples)
    }
    output.begin_whole([DOCUMENT, PAGE, *crops])
    for name, crop in crops.items():
        write_atomically(out / name, encode_png(crop))
    document = {"images": len(paths) - len(skipped), "classes": [describe(each) for each in found]}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    # a file name need not be text: in JSON, as on the page, such bytes are escaped
    write_atomically(out / DOCUMENT, text.encode(errors="backslashreplace"))
    write_atomically(out / PAGE, page(found, len(paths) - len(skipped)).encode(errors="backslashreplace"))
    return found, skipped


def crop_path(unknown: UnknownClass, number: int) -> Path:
    """Where the crop of an example is, from the folder of the page."""
    return Path(CROPS) / f"unknown{unknown.number:03}-{number + 1}.png"


def describe(unknown: UnknownClass) -> dict[str, object]:
    """An unknown class, JSON-ready; ``unknown`` counts from 1."""
    return {
        "unknown": unknown.number,
        "names": [{"name": name, "score": round(score, 4)} for name, score in unknown.names],
        "share": round(unknown.share, 6),
        "images": unknown.images,
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
    classes = [
        {
            "number": unknown.number,
            "share": unknown.share,
            "images": unknown.images,
            "names": unknown.names,
            "examples": [
                (Path(shown.source).name, crop_path(unknown, number).as_posix())
                for number, shown in enumerate(unknown.examples)
            ],
        }
        for unknown in found
        if unknown.examples
    ]
    return render_page("unknown", images=images, classes=classes, absent=len(found) - len(classes))
