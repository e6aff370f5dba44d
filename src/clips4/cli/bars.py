"""Progress bars of commands, on the error stream."""

from clips4.cli.console import is_quiet
from clips4.utils.progress import ProgressBars


def bars() -> ProgressBars:
    """Bars that are drawn where the error stream is a terminal, and without --quiet."""
    from rich.console import Console

    return ProgressBars(Console(stderr=True, quiet=is_quiet()))
