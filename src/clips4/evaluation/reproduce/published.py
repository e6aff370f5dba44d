"""Published figures from a YAML file, for a column beside ours; none is shipped.

voc:
  clips4-prototypes/voc20:
    source: "He et al., CVPR 2023, table 1"
    miou_present: 72.0                        # in percent, by the keys of the table's columns
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from clips4.errors import UserError
from clips4.evaluation.reproduce.tables import Table
from clips4.utils.text import printable, read_text

Figures = Mapping[str, "Published"]  # by the keys of rows


@dataclass(frozen=True)
class Published:
    """The published figures of a row in percent, by column, and where they stand."""

    source: str
    values: Mapping[str, float]


def read_published(path: Path, table: Table) -> dict[str, Published]:
    """The figures of a table.

    Raises:
        UserError: not such a file, an unknown row or column, a row without source, or a value that is no percentage.
    """
    try:
        found = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: invalid YAML ({printable(str(error).splitlines()[0][:120])})")
    if not isinstance(found or {}, dict):
        raise UserError(f"{path}: write table, row and column: number, as in the file that clips4 reproduce writes")
    rows = (found or {}).get(table.name) or {}
    if not isinstance(rows, dict):
        raise UserError(f"{path}: {table.name}: write row keys, and below each its source and its columns")
    known = {row.key for row in table.rows}
    figures = {}
    for key, given in rows.items():
        place = f"{path}: {table.name}: {printable(key)}"
        if key not in known:
            raise UserError(f"{place}: no such row; there are {', '.join(sorted(known))}")
        given = given or {}
        if not isinstance(given, dict):
            raise UserError(f"{place}: write source: TEXT and columns: NUMBER below it")
        values = {column: value for column, value in given.items() if column != "source" and value is not None}
        if values:
            figures[key] = Published(
                _source(given, place), {c: _percent(v, c, table, place) for c, v in values.items()}
            )
    return figures


def _source(given: Mapping[object, object], place: str) -> str:
    source = given.get("source")
    if not isinstance(source, str) or not source.strip():
        raise UserError(f"{place}: has figures and no source; say where they were published")
    return source.strip()


def _percent(value: object, column: object, table: Table, place: str) -> float:
    if column not in table.columns:
        raise UserError(f"{place}: no column {printable(column)!r}; there are {', '.join(table.columns)}")
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or not 0 <= value <= 100
    ):
        raise UserError(f"{place}: {printable(column)} = {printable(value)}: give a percentage from 0 to 100")
    return float(value)


def template(table: Table) -> str:
    """An empty file for a table, to be filled by hand."""
    lines = [
        "# Published figures in percent, with their source; clips4 reproduce shows them in columns of their own.",
        f"{table.name}:",
    ]
    for row in table.rows:
        lines += [f"  {row.key}:", "    source:", *(f"    {column}:" for column in table.columns)]
    return "\n".join(lines) + "\n"
