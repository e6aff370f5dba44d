"""Every setting with its default, its meaning, and the presets that set it: for ``clips4 config`` and its docs page."""

from collections.abc import Sequence
from importlib import resources
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

_PRESETS = resources.files("clips4").joinpath("presets")


class Setting(NamedTuple):
    """A setting.

    Attributes:
        key: ``section.key``, as ``--set`` takes it.
        default: JSON-ready.
        choices: all that it may be, in the words of ``--set``; empty where there are too many to list.
        meaning: one line.
        presets: name -> value, for each preset that sets it.
    """

    key: str
    default: Any
    choices: tuple[str, ...]
    meaning: str
    presets: dict[str, Any]


def settings(prefix: str = "") -> list[Setting]:
    """The settings whose key begins with ``prefix``, in the order of the configuration.

    Example:
        >>> [each.key for each in settings("segments")]
        ['segments.clusters', 'segments.iterations']
    """
    from clips4.config import Config, load_config, preset_names

    presets = {name: load_config(name) for name in preset_names()}
    found = []
    for section, outer in Config.model_fields.items():
        default = outer.default.model_dump(mode="json")
        for key, field in outer.default.__class__.model_fields.items():
            sections = {name: getattr(preset, section) for name, preset in presets.items()}
            set_by = {
                name: values.model_dump(mode="json")[key]
                for name, values in sections.items()
                if key in values.model_fields_set
            }
            meaning = field.description or ""
            found.append(Setting(f"{section}.{key}", default[key], _choices(field.annotation), meaning, set_by))
    return [each for each in found if each.key.startswith(prefix)]


def preset_summaries() -> dict[str, str]:
    """Preset -> the first sentence about it: the first line after the command in the comment of its file."""
    files = [path for path in _PRESETS.iterdir() if path.name.endswith(".yaml")]
    texts = {path.name.removesuffix(".yaml"): path.read_text("utf-8") for path in files}
    found = {}
    for name, text in sorted(texts.items()):
        first = text.split("\n#\n", 1)[1].replace("\n# ", " ").removeprefix("# ")
        found[name] = first.partition(". ")[0]
    return found


def shown(value: Any) -> str:
    """A value as ``--set`` takes it.

    Example:
        >>> shown([0.25, 1.0]), shown(True), shown(None)
        ('[0.25, 1.0]', 'true', 'null')
    """
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "null"}[value]
    return f"[{', '.join(map(shown, value))}]" if isinstance(value, list | tuple) else f"{value}"


def table(found: Sequence[Setting], preset: str | None = None) -> str:
    """A Markdown table: setting, default, meaning and what presets set it to; with ``preset``, its value instead."""
    lines = [f"| Setting | Default | {preset or 'Presets'} | Meaning |", "|---|---|---|---|"]
    for each in found:
        if preset:
            other = shown(each.presets[preset]) if preset in each.presets else ""
        else:
            names: dict[str, list[str]] = {}
            for name, value in each.presets.items():
                names.setdefault(shown(value), []).append(name)
            other = "; ".join(f"{value}: {', '.join(given)}" for value, given in names.items())
        choices = f" ({', '.join(each.choices)})" if each.choices and each.choices != ("true", "false") else ""
        lines.append(f"| {each.key} | {shown(each.default)} | {other} | {each.meaning}{choices} |")
    return "\n".join(lines)


def reference_page() -> str:
    """The page docs/reference/configuration.md, in Markdown."""
    from clips4.config import Config

    lines = [
        "# Configuration",
        "",
        "Every setting of a run, its default, and the presets that set it. To set one: `clips4 train --set KEY=VALUE`.",
        "`clips4 config` prints this list, `clips4 config train --preset paper` a part of it.",
        "",
        "This page is written by `clips4 config --page`; a test keeps it current.",
        "",
        "## Presets",
        "",
        *(f"- `{name}`: {summary}." for name, summary in preset_summaries().items()),
    ]
    for section, outer in Config.model_fields.items():
        about = (outer.default.__class__.__doc__ or "").strip()
        lines += ["", f"## {section}", "", about, "", table(settings(f"{section}."))]
    return "\n".join(lines) + "\n"


def _choices(annotation: Any) -> tuple[str, ...]:
    if annotation is bool:
        return "true", "false"
    if get_origin(annotation) is Literal:
        return tuple(map(shown, get_args(annotation)))
    if get_origin(annotation) in (Union, UnionType):
        inner = [_choices(each) if each is not type(None) else ("null",) for each in get_args(annotation)]
        return tuple(value for values in inner for value in values) if all(inner) and len(inner) > 1 else ()
    return ()
