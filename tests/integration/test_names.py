"""Hostile file and class names have no effect; ``benchmarks/names.py`` runs all commands."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("command", ["segment", "unknown", "regions", "labels"])
def test_command_of_hostile_names_shows_and_writes_none_raw(
    command: str, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import names

    names.write_inputs(tmp_path)
    found = names.check(names.commands(tmp_path, tiny_run)[command], tmp_path)
    assert found.code in (0, 2)
    assert found.sound, found
    sys.modules.pop("names")
