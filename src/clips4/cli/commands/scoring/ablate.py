"""`clips4 ablate`: train and score a run for every setting of a grid."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from clips4.cli.arguments import Device, Fold, Images, Overrides, Preset, Protocol
from clips4.cli.console import echo, print_note, progress_bars, stop


def ablate(
    images: Images,
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
    preset: Preset = "cpu",
    overrides: Overrides = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help="Name of the teacher.")] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Seeds separated by commas, e.g. 0,1,2: mean and standard deviation.")
    ] = "",
    fold: Fold = None,
    classes: Annotated[str | None, typer.Option("--classes", help="Names to train with; the set's by default.")] = None,
    protocol: Protocol = "clips4-v1",
    device: Device = "auto",
) -> None:
    """Train and score a run for every setting: losses, number of unknown prototypes, m, text or prototypes."""
    from clips4.errors import UserError
    from clips4.evaluation.ablation import TABLE
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
                images, dataset, root, out, axes, preset, chosen, fold, classes, device, progress, each_seed, protocol
            )
    except Interrupted as interrupted:
        stop(f"Stopped and saved at step {interrupted.step}; run the same command to resume.")
    echo(table)
    print_note(f"written to {out / TABLE}")
