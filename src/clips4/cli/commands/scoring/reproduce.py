"""`clips4 reproduce`: a table of the paper, from the sets to its figures."""

import json
from pathlib import Path
from typing import Annotated

import typer

from clips4.cli import command
from clips4.cli.arguments import Device, Overrides, Preset, Protocol, option
from clips4.cli.console import echo, print_note, progress_bars, stop

_TABLES = ("voc", "context", "stuff", "unsupervised", "tracking", "ablation", "embedding-figure", "eight-sets")


def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            help="voc, context, stuff, unsupervised, tracking, ablation, embedding-figure, or eight-sets.",
            autocompletion=command.one_of(_TABLES),
        ),
    ],
    data: Annotated[Path, typer.Option("--data", help="Folder that holds the sets: VOCdevkit/, coco/, DAVIS/.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of runs, records and tables; the same folder resumes.")
    ] = Path("runs/paper"),
    preset: Preset = "paper",
    overrides: Overrides = None,
    teacher: Annotated[
        str | None, option("--teacher", "Name of the teacher.", command.one_of(command.teachers))
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds; three give a deviation.")] = 1,
    protocol: Protocol = "clips4-v1",
    published: Annotated[
        Path | None,
        typer.Option("--published", help="YAML with published figures; by default OUT/TABLE-published.yaml."),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Ranks of each training, started by torchrun: one for each GPU.")
    ] = 1,
    partial: Annotated[bool, typer.Option("--partial", help="Use sets with fewer images than published.")] = False,
    stand_in: Annotated[
        bool, typer.Option("--stand-in", help="coco128, camvid and davis16 in place of the sets of the paper.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the steps with hours, disk and memory for several cards.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Make a table of the paper: check the sets, train, score teachers and students, write page and table."""
    from clips4.evaluation.reproduce.costs import describe, estimate
    from clips4.evaluation.reproduce.plan import Plan
    from clips4.evaluation.reproduce.reproduce import reproduce as run_reproduction
    from clips4.evaluation.reproduce.tables import find_table
    from clips4.training.loop import Interrupted

    chosen = (*(overrides or []), *([f"teacher.name={json.dumps(teacher)}"] if teacher else []))
    plan = Plan(
        find_table(table, stand_in),
        data,
        out,
        preset,
        chosen,
        protocol,
        tuple(range(seeds)),
        device,
        processes,
        partial,
        stand_in,
    )
    if dry_run:
        echo(describe(plan, estimate(plan)))
        return
    try:
        with progress_bars() as progress:
            text = run_reproduction(plan, published, progress)
    except Interrupted as interrupted:
        stop(f"Stopped and saved at step {interrupted.step}; run the same command to resume.")
    echo(text.rstrip())
    print_note(f"written to {out / table}.html, .md and .json")
