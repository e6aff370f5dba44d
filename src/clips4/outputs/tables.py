"""Tables of scores as Markdown."""

from collections.abc import Mapping

from clips4.utils.text import printable


def percent(value: object) -> str:
    """A share as percent with two digits; what is text already as it is; a dash for none."""
    if isinstance(value, str):
        return value
    return f"{100 * value:.2f}" if isinstance(value, float) else "-"


def _cell(name: str) -> str:
    return printable(name).replace("|", "\\|")


def markdown(rows: Mapping[str, Mapping[str, object]], columns: Mapping[str, str]) -> str:
    """A Markdown table in percent: a line per row, a column per key (key -> heading); a dash where a row lacks it."""
    lines = ["| | " + " | ".join(columns.values()) + " |", "|---|" + "---:|" * len(columns)]
    for name, row in rows.items():
        lines.append(f"| {_cell(name)} | " + " | ".join(percent(row.get(key)) for key in columns) + " |")
    return "\n".join(lines)
