"""`clips4 cluster`: images into clusters, without class names."""

from pathlib import Path
from typing import Annotated

import typer

from clips4.cli.arguments import expand_paths


def cluster(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Images, or folders of them, clustered together; - for a list on standard input.",
            callback=expand_paths,
        ),
    ],
    k: Annotated[int, typer.Option("--k", min=1, max=4096, help="Number of clusters, over all images together.")],
    out: Annotated[Path, typer.Option("--out", help="Output folder.")],
    save: Annotated[
        str, typer.Option("--save", help="Some of png,overlay,json,coco,panoptic,yolo,npz,gallery.")
    ] = "png,overlay,json",
    restarts: Annotated[int, typer.Option("--restarts", min=1, help="Of k-means; the best one counts.")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="Of k-means.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Redo what was done with the same settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Divide the pixels of all images into k clusters: label PNG, overlay, JSON for each image."""
    from clips4.cli.commands.segment import report
    from clips4.cli.console import progress_bars
    from clips4.inference.jobs.cluster import cluster_files
    from clips4.inference.jobs.load import TeacherOptions, load_segmenter
    from clips4.utils.atomic_io import lock_folder

    with progress_bars() as progress, lock_folder(out):
        loaded = load_segmenter([run, *images], None, device, TeacherOptions())
        outcome = cluster_files(loaded, k, out, save, restarts, seed, force, progress)
    report(outcome, "Clustered", out, as_json)
