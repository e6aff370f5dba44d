"""What a shell completes, by the protocol that each shell speaks, and help that is not cut off."""

import os
import subprocess
import sys

import pytest
import typer

from clips4.cli import command
from clips4.cli.app import app
from clips4.cli.shell import run
from tests.cli.test_shell import commands

# a value that each option of a list of choices must complete
_CHOICES = {
    "device": "mps",
    "preset": "recommended",
    "save": "overlay",
    "use": "student",
    "vectors": "text",
    "refine": "pamr",
    "dense_attention": "naclip",
    "templates": "imagenet-80",
    "method": "hed-ucm",
    "protocol": "tcl",
    "rules": "davis17",
    "tasks": "clusters",
    "features": "backbone",
    "dataset": "voc21",
    "classes": "camvid11",
    "teacher": "conse",
    "teacher_only": "conse",
    "split": "val",
    "grid": "losses",
}


def complete(shell: str, line: str) -> list[str]:
    """What the program prints for a shell that completes the last word of a line."""
    words = line.split(" ")
    environment = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    environment = {**os.environ, **environment, "_CLIPS4_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(
        [sys.executable, "-m", "clips4"], env=environment, capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_a_list_completes_its_last_part(shell: str) -> None:
    found = " ".join(complete(shell, "clips4 segment runs/a b.jpg --save png,pan"))
    assert "png,panoptic" in found
    assert "overlay" not in found


def test_completion_of_a_setting_gives_keys_then_values() -> None:
    assert complete("bash", "clips4 train photos --set train.stal") == ["train.stall_timeout="]
    assert "objective.mode=maskclip-plus" in " ".join(complete("zsh", "clips4 train photos --set objective.mode=m"))


@pytest.mark.parametrize("names", commands(), ids=" ".join)
def test_every_option_with_choices_completes_them(names: list[str]) -> None:
    found = typer.main.get_command(app)
    for word in names:
        found = found.commands[word]  # type: ignore[attr-defined]
    context = typer.Context(found)
    for parameter in found.params:
        if value := _CHOICES.get(str(parameter.name)):
            others = {("regions", "save"): "page", ("evaluate tracking", "dataset"): "davis16"}
            value = others.get((" ".join(names), str(parameter.name)), value)
            offered = [each.value for each in parameter.shell_complete(context, value[:2])]
            assert value in offered, (names, parameter.name)
            assert all(each.startswith(value[:2]) for each in offered)


@pytest.mark.parametrize("names", commands(), ids=" ".join)
def test_help_at_80_columns_cuts_nothing_off(
    names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(app, [*names, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.split("\n"))) == 80
    assert "…" not in text
    assert not [mark for mark in ("<str>", "<bool>", "<list[", "<path>", "<int>") if mark in text]


def test_device_and_json_mean_the_same_in_every_command() -> None:
    seen = {"device": set(), "json": set()}  # type: dict[str, set[object]]
    for names in commands():
        found = typer.main.get_command(app)
        for word in names:
            found = found.commands[word]  # type: ignore[attr-defined]
        for parameter in found.params:
            if "--device" in parameter.opts:
                seen["device"].add((parameter.default, parameter.help))  # type: ignore[attr-defined]
            if "--json" in parameter.opts:
                seen["json"].add((parameter.is_flag, parameter.help))  # type: ignore[attr-defined]
    assert seen == {
        "device": {("auto", "auto, cpu, cuda or mps.")},
        "json": {(True, "Print the result as JSON.")},
    }


def test_one_of_unknown_prefix_offers_nothing() -> None:
    assert command.one_of(("student", "teacher"))("x") == []
    assert command.some_of(lambda: ["a", "ab"])("a,a") == ["a,ab"]


def test_help_of_save_lists_every_kind(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(app, ["segment", "--help"]) == 0
    text = capsys.readouterr().out
    assert not [kind for kind in command.file_kinds() if kind not in text]
