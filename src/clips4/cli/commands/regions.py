"""`clips4 regions`: images into visually coherent regions."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from clips4.cli import command
from clips4.cli.arguments import AsJson, Device, Images, option
from clips4.cli.console import print_outcome, progress_bars


def regions(
    images: Images,
    method: Annotated[
        str,
        option(
            "--method",
            "slic, felzenszwalb, gradient-ucm, hed-ucm, edges-ucm or ready.",
            command.one_of(command.region_methods),
        ),
    ] = "slic",
    count: Annotated[int, typer.Option("--count", help="Number of regions: approximate for slic, else a limit.")] = 48,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="*-ucm: keep contours stronger than this, 0 to 1.")
    ] = None,
    edges: Annotated[
        Path | None,
        typer.Option(
            "--edges", "--maps", help="edges-ucm: folder of edge maps, STEM.png or .npy; ready: of region maps."
        ),
    ] = None,
    save: Annotated[
        str,
        option(
            "--save", "Some of png, overlay, page; with commas.", command.some_of(("png", "overlay", "page")), "KINDS"
        ),
    ] = "png,overlay",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; without it only the cache is filled.")
    ] = None,
    long_side: Annotated[
        int, typer.Option("--long-side", min=0, help="Shrink images to this long side, as training does; 0: keep.")
    ] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Number of processes.")] = 1,
    overrides: Annotated[
        list[str] | None,
        option(
            "--set",
            "A setting of the section regions, see clips4 config regions; may be repeated.",
            lambda incomplete: [each for each in command.settings(incomplete) if each.startswith("regions.")],
            "regions.KEY=VALUE",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Remove outputs of other settings from --out.")] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Divide images into visually coherent regions; for each a 16-bit label PNG and an overlay."""
    from clips4.regions.job import region_files, region_settings
    from clips4.utils.atomic_io import lock_folder
    from clips4.utils.devices import pick_device

    settings = region_settings(method, count, threshold, edges, overrides or [])
    hed_device = str(pick_device(device))
    with progress_bars() as progress, lock_folder(out) if out else nullcontext():
        outcome = region_files(images, settings, out, save, workers, long_side, hed_device, force, progress)
    print_outcome(outcome, "Regions of", f"in {out or 'the cache'}", out, as_json)
