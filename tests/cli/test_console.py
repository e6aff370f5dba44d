"""Tables: drawn on a terminal, Markdown where they are piped."""

import io
import sys
from pathlib import Path

import pytest

from clips4.cli.console import print_outcome, print_table
from clips4.data.image_folder import JobOutcome, SkippedImage

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


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (["a.png"], "1 image (1 skipped)"),
        (["a.tar", "b.parquet"], "2 shards (1 skipped)"),
        (["a.mp4"], "1 video (1 skipped)"),
        (["a.png", "a.mp4"], "2 files (1 skipped)"),
    ],
)
def test_print_outcome_counts_what_was_given(
    done: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").touch()
    outcome = JobOutcome([tmp_path / name for name in done], skipped=[SkippedImage(Path("in/a.png"), "damaged")])
    print_outcome(outcome, "Segmented", "into out", None, False)
    assert expected in capsys.readouterr().out
