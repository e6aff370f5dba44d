"""`clips4 ablate`: train and score a run for every setting of a grid."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from clips4.cli import command
from clips4.cli.arguments import AsJson, Dataset, Device, Fold, Images, Overrides, Preset, Protocol, option
from clips4.cli.console import print_note, print_summary, print_table, progress_bars, stop


def ablate(
    images: Images,
    dataset: Dataset,
    root: Annotated[Path, typer.Option("--root", help="Root folder of the labeled set.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs and the table; the same folder resumes.")],
    grid: Annotated[
        list[str] | None,
        option(
            "--grid",
            "losses, unknown=0,20,60, m=1,16,64, vectors (by default all), or section.key=A,B; may be repeated.",
            lambda incomplete: [
                *command.one_of(("losses", "unknown", "m", "vectors"))(incomplete),
                *command.settings(incomplete),
            ],
            "AXIS",
        ),
    ] = None,
    preset: Preset = "cpu",
    overrides: Overrides = None,
    teacher: Annotated[
        str | None, option("--teacher", "Name of the teacher.", command.one_of(command.teachers))
    ] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Seeds separated by commas, e.g. 0,1,2: mean and standard deviation.")
    ] = "",
    fold: Fold = None,
    classes: Annotated[
        str | None,
        option("--classes", "Names to train with; the set's by default.", command.one_of(command.class_lists), "NAMES"),
    ] = None,
    protocol: Protocol = "clips4-v1",
    as_json: AsJson = False,
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
            table, rows = run_ablation(
                images, dataset, root, out, axes, preset, chosen, fold, classes, device, progress, each_seed, protocol
            )
    except Interrupted as interrupted:
        stop(f"Stopped and saved at step {interrupted.step}; run the same command to resume.")
    if as_json:
        print_summary("", {"out": out, "rows": rows}, as_json)
    else:
        print_table(table)
    print_note(f"written to {out / TABLE}")
