"""`clips4 ablate`: train and score a run for every setting of a grid."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from clips4.cli.arguments import expand_paths
from clips4.cli.console import echo, print_note


def ablate(
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Unlabeled images, or folders of them, to train on; - for a list on the standard input.",
            callback=expand_paths,
        ),
    ],
    dataset: Annotated[str, typer.Option("--dataset", help="Labeled set to score on.")],
    root: Annotated[Path, typer.Option("--root", help="Root folder of the labeled set.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs and the table; the same folder resumes.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            help="losses, unknown=0,20,60, m=1,16,64, vectors (by default all), or section.key=A,B; may be repeated.",
        ),
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="A shipped preset, or a YAML file.")] = "cpu",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value for every run.")] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help="Name of the teacher.")] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Seeds separated by commas, e.g. 0,1,2: mean and standard deviation.")
    ] = "",
    fold: Annotated[int | None, typer.Option("--fold", help="Fold of unknown classes.")] = None,
    classes: Annotated[str | None, typer.Option("--classes", help="Names to train with; the set's by default.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Train and score a run for every setting: losses, number of unknown prototypes, m, text or prototypes."""
    from clips4.cli.console import progress_bars
    from clips4.errors import UserError
    from clips4.evaluation.ablation import ablate as run_ablation
    from clips4.training.loop import Interrupted

    chosen = [*(overrides or []), *([f"teacher.name={json.dumps(teacher)}"] if teacher else [])]
    if not re.fullmatch(r"(\d+(,\d+)*)?", seeds):
        raise UserError(f"--seeds {seeds!r}: give numbers separated by commas, e.g. 0,1,2")
    each_seed = sorted({int(seed) for seed in seeds.split(",") if seed})
    axes = grid or ["losses", "unknown", "m", "vectors"]
    try:
        with progress_bars() as progress:
            table = run_ablation(
                images, dataset, root, out, axes, preset, chosen, fold, classes, device, progress, each_seed
            )
    except Interrupted as interrupted:
        print_note(f"Stopped at step {interrupted.step} and saved; the same command resumes.")
        raise typer.Exit(130)
    echo(table)
    print_note(f"written to {out / 'table.md'}")
