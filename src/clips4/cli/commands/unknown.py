"""`clips4 unknown`: the unknown classes that a run discovered."""

import json
from pathlib import Path
from typing import Annotated

import typer

from clips4.cli.arguments import AsJson, Classes, Device, Images, Run, Use, check_run_first
from clips4.cli.console import echo, print_skipped, print_summary, progress_bars
from clips4.utils.text import plural, read_json


def unknown(
    run: Run,
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="Output folder: index.html, unknown.json and crops.")],
    classes: Classes = None,
    names: Annotated[int, typer.Option("--names", min=1, max=50, help="Suggested names per class.")] = 5,
    examples: Annotated[int, typer.Option("--examples", min=0, max=50, help="Crops per class.")] = 4,
    as_json: AsJson = False,
    use: Use = "auto",
    device: Device = "auto",
) -> None:
    """Show the unknown classes that a run discovered: how much of the images, where, and possible names."""
    from clips4.data.image_folder import find_images
    from clips4.inference.jobs.discover import DOCUMENT, PAGE, unknown_files
    from clips4.inference.segmenter import Segmenter
    from clips4.utils.atomic_io import lock_folder

    check_run_first([run, *images], "clips4 unknown")
    paths = find_images(images)
    with progress_bars() as progress, lock_folder(out):
        segmenter = Segmenter.load(run, device, use=use)  # type: ignore[arg-type]  # load checks it
        found, skipped = unknown_files(segmenter, paths, out, names, examples, classes, progress)
    print_skipped(skipped)
    if as_json:
        echo(json.dumps(read_json(out / DOCUMENT)))
        return
    occurring = sum(bool(each.examples) for each in found)
    images_read = plural(len(paths) - len(skipped), "image")
    print_summary(f"{occurring} of {plural(len(found), 'unknown class', 'unknown classes')} occur in {images_read}.")
    print_summary(f"Open {out / PAGE} in a browser.")
