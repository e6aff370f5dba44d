"""`clips4 doctor --data DIR --dataset NAME`: is a copy of a set whole?"""

import json
from dataclasses import asdict
from pathlib import Path

import typer

from clips4.errors import UserError


def check_copy(data: Path | None, dataset: str | None, split: str | None, as_json: bool) -> None:
    """Print what was found; exit code 1 where the copy has a problem."""
    from clips4.cli.bars import bars
    from clips4.data.benchmarks.verify import check_set, checkable, describe_check

    if data is None or dataset is None:
        raise UserError(f"give both --data DIR and --dataset NAME; names: {', '.join(checkable())}")
    with bars() as progress:
        check = check_set(dataset, data, split, progress)
    typer.echo(json.dumps(asdict(check), indent=2) if as_json else describe_check(check))
    if check.problems:
        raise typer.Exit(1)
