"""How a command shows its options, and what a shell completes for them.

A completion function takes the incomplete text and returns what it can become. It imports what it lists when a shell
asks for it, so that ``--help`` stays light.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

from typer.core import TyperCommand

Completion = Callable[[str], list[str]]
Listed = Iterable[str] | Callable[[], Iterable[str]]
_PLACEHOLDERS = {bool: "", int: "N", float: "X", Path: "PATH", str: "TEXT"}


class Command(TyperCommand):
    """A command whose help names values in words: N, X, PATH or TEXT where an option has no placeholder of its own."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        for parameter in self.params:
            _name_value(parameter)

    def get_help_option(self, ctx: Any) -> Any:
        """The option --help, without a placeholder too."""
        found = super().get_help_option(ctx)
        if found is not None:
            _name_value(found)
        return found


def _name_value(parameter: Any) -> None:
    if parameter.param_type_name == "argument":  # its name says what it is
        parameter.display_type_rich = lambda ctx: ""
    elif parameter.metavar is None and hasattr(parameter, "type_descriptor"):  # earlier versions of typer have none
        annotation = parameter.type_descriptor.annotation
        parameter.metavar = _PLACEHOLDERS[(*get_args(annotation), annotation)[0]]


def one_of(listed: Listed) -> Completion:
    """Completes one of the listed values."""
    return lambda incomplete: [each for each in _values(listed) if each.startswith(incomplete)]


def some_of(listed: Listed) -> Completion:
    """Completes the last part of a list with commas; what is already in the list is not offered again.

    Example:
        >>> some_of(("png", "overlay", "panoptic"))("png,p")
        ['png,panoptic']
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        free = [each for each in _values(listed) if each not in before.split(",")]
        return [before + comma + each for each in free if each.startswith(last)]

    return complete


def _values(listed: Listed) -> Iterable[str]:
    return listed() if callable(listed) else listed


def presets() -> list[str]:
    """The shipped presets."""
    from clips4.config import preset_names

    return preset_names()


def presets_or_auto() -> list[str]:
    """What ``clips4 train --preset`` knows by name."""
    return ["auto", *presets()]


def settings(incomplete: str) -> list[str]:
    """Completes ``section.key=``, then its values where the setting has a few."""
    from clips4.config import known_keys
    from clips4.config_reference import settings as described

    key, equals, _ = incomplete.partition("=")
    found = [f"{key}={value}" for each in described(key) if each.key == key for value in each.choices] if equals else []
    return [each for each in found or [f"{key}=" for key in known_keys()] if each.startswith(incomplete)]


def setting_prefixes() -> list[str]:
    """Sections and keys of the configuration."""
    from clips4.config import Config, known_keys

    return [*Config.model_fields, *known_keys()]


def class_lists() -> list[str]:
    """The shipped class lists."""
    from clips4.data.class_names import builtin_class_files

    return builtin_class_files()


def teachers() -> list[str]:
    """The built-in teacher, and CLIP's that the hub's cache holds."""
    from clips4.utils.hub import cached_models

    return ["conse", *cached_models()]


def templates() -> list[str]:
    """The shipped prompt templates."""
    from clips4.data.class_names import ASSETS

    return sorted(path.name.removesuffix(".txt") for path in ASSETS.joinpath("templates").iterdir())


def file_kinds() -> list[str]:
    """What ``--save`` writes."""
    from clips4.outputs.encode import KINDS

    return list(KINDS)


def region_methods() -> list[str]:
    """How regions are found."""
    from clips4.config import RegionConfig

    return list(get_args(RegionConfig.model_fields["method"].annotation))


def semantic_sets() -> list[str]:
    """Labeled sets for semantic segmentation."""
    from clips4.data.benchmarks.registry import SEMANTIC

    return list(SEMANTIC)


def checked_sets() -> list[str]:
    """Sets whose copies ``clips4 doctor`` checks."""
    from clips4.data.benchmarks.verify import checkable

    return list(checkable())


def splits() -> list[str]:
    """Splits of the labeled sets."""
    from clips4.data.benchmarks.registry import SEMANTIC

    return list(dict.fromkeys(split for spec in SEMANTIC.values() for split in spec.splits))
