"""`clips4 regions`: images into visually coherent regions."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from clips4.cli.arguments import AsJson, expand_paths
from clips4.cli.console import echo, outcome_record, print_note, print_summary, progress_bars
from clips4.errors import UserError


def regions(
    images: Annotated[
        list[Path],
        typer.Argument(help="Images, or folders of them; - reads a list from standard input.", callback=expand_paths),
    ],
    method: Annotated[
        str, typer.Option("--method", help="slic, felzenszwalb, gradient-ucm, hed-ucm or edges-ucm.")
    ] = "slic",
    count: Annotated[int, typer.Option("--count", help="Number of regions: approximate for slic, else a limit.")] = 48,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="*-ucm: keep contours stronger than this, 0 to 1.")
    ] = None,
    edges: Annotated[
        Path | None, typer.Option("--edges", help="edges-ucm: folder of edge maps, STEM.png or STEM.npy.")
    ] = None,
    save: Annotated[str, typer.Option("--save", help="Some of png,overlay,page.")] = "png,overlay",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; without it only the cache is filled.")
    ] = None,
    long_side: Annotated[
        int, typer.Option("--long-side", min=0, help="Shrink images to this long side, as training does; 0: keep.")
    ] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Number of processes.")] = 1,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="regions.key=value; may be repeated.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Remove outputs of other settings from --out.")] = False,
    device: Annotated[str, typer.Option("--device", help="Where HED runs: auto, cpu, cuda or mps.")] = "cpu",
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
    for _, reason in outcome.skipped:
        print_note(f"skipped: {reason}")
    if outcome.interrupted:
        echo(f"Stopped after {len(outcome.done)} images; run the same command to resume.", err=True)
        raise typer.Exit(130)
    text = f"Regions of {len(outcome.done)} images ({len(outcome.skipped)} skipped) in {out or 'the cache'}."
    print_summary(text, {**outcome_record(outcome), "out": out}, as_json)
    if not outcome.done:
        raise UserError(f"none of {len(outcome.skipped)} images could be used")
