"""`clips4 config`: every setting of a run, with its default, its meaning and the presets that set it."""

from typing import Annotated

import typer

from clips4.cli import command
from clips4.cli.arguments import AsJson, option
from clips4.cli.console import echo, print_note, print_summary, print_table
from clips4.errors import UserError


def config(
    prefix: Annotated[
        str,
        typer.Argument(
            metavar="[KEY-PREFIX]",
            help="Only settings whose key begins with this: train, objective.mode.",
            autocompletion=command.one_of(command.setting_prefixes),
        ),
    ] = "",
    preset: Annotated[
        str | None, option("--preset", "Only what this preset sets.", command.one_of(command.presets))
    ] = None,
    page: Annotated[bool, typer.Option("--page", help="Print docs/reference/configuration.md instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the settings of a run: key, default, the presets that set it, meaning; set one by train --set."""
    from difflib import get_close_matches

    from clips4.config import known_keys, preset_names
    from clips4.config_reference import reference_page, settings, table

    if page:
        echo(reference_page().removesuffix("\n"))
        return
    if preset and preset not in preset_names():
        raise UserError(f"--preset {preset!r}: give one of {', '.join(preset_names())}")
    found = settings(prefix)
    if not found:
        sections = list(dict.fromkeys(key.partition(".")[0] for key in known_keys()))
        near = get_close_matches(prefix, [*known_keys(), *sections], 1)
        advice = f"did you mean {near[0]}?" if near else f"sections: {', '.join(sections)}"
        raise UserError(f"no setting begins with {prefix!r}; {advice}")
    if preset:
        found = [each for each in found if preset in each.presets]
    if as_json:
        print_summary("", {"settings": [each._asdict() for each in found]}, as_json)
    elif found:
        print_table(table(found, preset))
    else:
        print_note(f"the preset {preset} sets none of these")
