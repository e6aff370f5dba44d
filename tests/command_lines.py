"""Command lines as README, docs and --help show them, held against the real parser without running them."""

import io
import re
import shlex
from typing import Any

import pytest
import typer

# how torchrun starts a command; its own options come before -m
_LAUNCHERS = {"torchrun", "python", "srun"}
# options that complete some values and take others: names, folders, parts of a student
_OPEN = {"classes", "teacher", "teacher_only", "features", "validate", "overrides", "grid", "fold"}


def clips4_arguments(line: str) -> list[str] | None:
    """The arguments of the ``clips4`` in a shell line, whoever starts it; None where there is none."""
    parts = shlex.split(line, comments=True)
    parts = parts[next((i for i, word in enumerate(parts) if "=" not in word), len(parts)) :]  # VARIABLE=value before
    if parts[:1] == ["clips4"]:
        return parts[1:]
    if parts and parts[0] in _LAUNCHERS and "-m" in parts:
        after = parts[parts.index("-m") + 1 :]
        return after[1:] if after[0] == "clips4" else None
    return None


def check_command_line(line: str) -> list[str]:
    """Parse a line by the command's own parser, which knows every option and type; nothing is run.

    Settings are validated with their preset, and values that a shell completes are among those that it lists.

    Returns:
        The command's name, as a list.
    """
    from clips4.cli.app import app

    arguments = clips4_arguments(line.split(" | ")[-1])
    assert arguments is not None, f"no clips4 in {line!r}"
    command: Any = typer.main.get_command(app)
    parts: list[str] = []
    if {"--help", "--version", "--install-completion"} & set(arguments):
        arguments = [each for each in arguments if each not in ("--help", "--version", "--install-completion")]
    while hasattr(command, "commands"):
        arguments = [each for each in arguments if each not in ("--quiet", "-q", "--debug")]
        if not arguments:
            return parts
        assert arguments[0] in command.commands, f"{line!r}: there is no command {arguments[0]!r}"
        command, parts = command.commands[arguments[0]], [*parts, arguments[0]]
        arguments = arguments[1:]
    with pytest.MonkeyPatch.context() as patch:
        # patterns and lists are of files that the reader has
        patch.setattr("glob.glob", lambda pattern, **_: [pattern])
        patch.setattr("sys.stdin", io.StringIO("photo.jpg\n"))
        try:
            check_values(command, command.make_context(" ".join(parts), list(arguments)))
        except Exception as error:
            said = error.format_message() if hasattr(error, "format_message") else error
            raise AssertionError(f"{line!r}: {said}") from error
    return parts


def check_values(command: Any, context: Any) -> None:
    """Values of the options that are given: settings are valid, and what a shell completes is listed.

    Raises:
        ValueError: an option has no such value.
        UserError: a setting is unknown or not valid.
    """
    from clips4.config import load_config

    given = context.params
    preset = given.get("preset")
    if given.get("overrides"):
        load_config(preset if preset and preset != "auto" else "recommended", given["overrides"])
    for option in command.params:
        value = given.get(option.name)
        if option.name in _OPEN or not isinstance(value, str) or value == option.default or value.endswith(".yaml"):
            continue
        listed = {item.value for item in option.shell_complete(context, "")}
        if listed and not set(value.split(",")) <= listed:
            raise ValueError(f"--{option.name} has no {value!r}, but {', '.join(sorted(listed))}")


def command_options() -> dict[str, set[str]]:
    """Command, as "evaluate language" -> its options; a group, and "", has also those of its commands."""
    from clips4.cli.app import app

    found: dict[str, set[str]] = {}

    def collect(command: Any, name: str) -> set[str]:
        given = [each for option in command.params for each in (*option.opts, *option.secondary_opts)]
        parts = getattr(command, "commands", {})
        found[name] = {"--help", *given}.union(*(collect(parts[part], f"{name} {part}".strip()) for part in parts))
        return found[name]

    collect(typer.main.get_command(app), "")
    return found


def logical_lines(block: str) -> list[str]:
    """A shell block's commands: continued lines joined, empty lines and comments left out."""
    joined = re.sub(r"\\\n\s*", " ", block)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]
