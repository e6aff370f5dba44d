"""`clips4 cluster`: images into clusters, without class names."""

from typing import Annotated

import typer

from clips4.cli.arguments import AsJson, Device, Force, Images, Out, Run, Save, Use, check_run_first


def cluster(
    run: Run,
    images: Images,
    k: Annotated[int, typer.Option("--k", min=1, max=4096, help="Number of clusters, over all images together.")],
    out: Out,
    save: Save = "png,overlay,json",
    restarts: Annotated[int, typer.Option("--restarts", min=1, help="Of k-means; the best one counts.")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="Of k-means.")] = 0,
    force: Force = False,
    as_json: AsJson = False,
    use: Use = "auto",
    device: Device = "auto",
) -> None:
    """Divide the pixels of all images into k clusters: label PNG, overlay, JSON for each image."""
    from clips4.cli.console import print_outcome, progress_bars
    from clips4.inference.jobs.cluster import cluster_files
    from clips4.inference.jobs.load import TeacherOptions, load_segmenter
    from clips4.utils.atomic_io import lock_folder

    check_run_first([run, *images], "clips4 cluster")
    with progress_bars() as progress, lock_folder(out):
        loaded = load_segmenter([run, *images], None, device, TeacherOptions(), use=use)
        outcome = cluster_files(loaded, k, out, save, restarts, seed, force, progress)
    print_outcome(outcome, "Clustered", f"into {out}", out, as_json)
