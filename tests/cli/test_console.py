"""Tables: drawn on a terminal, Markdown where they are piped."""

import io
import sys

import pytest

from clips4.cli.console import print_table

TABLE = "| | mIoU |\n|---|---:|\n| a\\|b_c_ | 12.30 |"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_print_table_piped_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(TABLE)
    assert capsys.readouterr().out == f"{TABLE}\n"


def test_print_table_on_a_terminal_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(TABLE)
    text = shown.getvalue()
    assert "|---" not in text
    assert "a|b_c_" in text
    assert "─" in text
    assert text.index("12.30") > text.index("mIoU")
