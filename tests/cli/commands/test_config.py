"""`clips4 config`: the list of settings, and the page of the docs that it writes."""

import json
import sys
from pathlib import Path

import pytest

from clips4.cli.app import main

PAGE = Path(__file__).parents[3] / "docs/reference/configuration.md"


def clips4(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["clips4", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
    return int(str(stopped.value.code))


def test_config_as_json_has_every_key_once(capsys: pytest.CaptureFixture[str]) -> None:
    from clips4.config import known_keys

    assert clips4("config", "--json") == 0
    found = json.loads(capsys.readouterr().out)["settings"]
    assert [each["key"] for each in found] == known_keys()
    mode = next(each for each in found if each["key"] == "objective.mode")
    assert (mode["default"], mode["choices"]) == ("clips4", ["clips4", "maskclip-plus"])


def test_config_of_a_preset_lists_what_it_sets(capsys: pytest.CaptureFixture[str]) -> None:
    assert clips4("config", "train", "--preset", "paper") == 0
    text = capsys.readouterr().out
    assert "| train.steps | 1000 | 30000 |" in text
    assert "train.seed" not in text


def test_config_unknown_prefix_suggests_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert clips4("config", "trains") == 2
    assert "did you mean train?" in capsys.readouterr().err


def test_page_of_the_docs_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert clips4("config", "--page") == 0
    assert PAGE.read_text("utf-8") == capsys.readouterr().out, f"run: clips4 config --page > {PAGE}"
