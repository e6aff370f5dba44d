"""`clips4 cluster`: pictures divided without words."""

from pathlib import Path
from typing import Annotated

import typer

from clips4.cli.arguments import expand_paths


def cluster(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures, or folders of them; clustered together; - for a list on the standard input.",
            callback=expand_paths,
        ),
    ],
    k: Annotated[int, typer.Option("--k", min=1, max=4096, help="Clusters, over all pictures together.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    save: Annotated[
        str, typer.Option("--save", help="Some of png,overlay,json,coco,panoptic,yolo,npz,gallery.")
    ] = "png,overlay,json",
    restarts: Annotated[int, typer.Option("--restarts", min=1, help="Of k-means; the best is kept.")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="Of k-means.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Do again what was done by the same settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say for machines what was done.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Divide pictures into k clusters of like pixels, the same k for all: label PNG, overlay, JSON for each."""
    from clips4.cli.commands.segment import report
    from clips4.cli.console import progress_bars
    from clips4.inference.jobs.cluster import cluster_files
    from clips4.inference.jobs.segment import TeacherOptions, load_segmenter

    with progress_bars() as progress:
        loaded = load_segmenter([run, *images], None, device, TeacherOptions())
        outcome = cluster_files(loaded, k, out, save, restarts, seed, force, progress)
    report(outcome, "Clustered", out, as_json)
