"""Typed configuration: defaults, presets (one YAML file each) and ``key=value`` overrides; unknown keys are errors."""

import difflib
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from clips4.config_renames import RENAMED, with_current_keys
from clips4.config_sections import (
    DataConfig,
    ExtensionConfig,
    ObjectiveConfig,
    PerClass,
    PrototypeConfig,
    RegionConfig,
    Section,
    SegmentConfig,
    StudentConfig,
    TeacherConfig,
    TrainConfig,
)
from clips4.errors import UserError
from clips4.utils.text import listing, printable, read_bytes

__all__ = [  # sections too, so that callers need one module
    "PRESETS",
    "Config",
    "DataConfig",
    "ExtensionConfig",
    "ObjectiveConfig",
    "PerClass",
    "PrototypeConfig",
    "RegionConfig",
    "SegmentConfig",
    "StudentConfig",
    "TeacherConfig",
    "TrainConfig",
    "known_keys",
    "load_config",
    "parse_config",
    "preset_names",
    "saved_config",
    "with_overrides",
]

PRESETS = resources.files("clips4").joinpath("presets")
_YAML_BYTES, _YAML_DEPTH, _YAML_NODES = 2**18, 16, 10_000


class Config(Section):
    """All settings of a run. Images and class names are given separately.

    Args:
        data: images and views; every section has its own keys, see docs/reference/configuration.md.
        regions: how regions are found.
        teacher: which teacher, and how it reads images and names.
        student: the network that is trained.
        segments: spherical k-means.
        prototypes: of the classes.
        objective: the three losses.
        extensions: beyond the paper.
        train: steps, batch, learning rate, checkpoints.

    Raises:
        pydantic.ValidationError: an unknown key or an invalid value.

    Example:
        >>> Config(train={"steps": 200, "batch": 4})
        Config(train.steps=200, train.batch=4)
    """

    data: DataConfig = DataConfig()
    regions: RegionConfig = RegionConfig()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    segments: SegmentConfig = SegmentConfig()
    prototypes: PrototypeConfig = PrototypeConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    extensions: ExtensionConfig = ExtensionConfig()
    train: TrainConfig = TrainConfig()

    def __repr__(self) -> str:
        """The settings that are not the defaults."""
        changed = [
            f"{section}.{key}={getattr(getattr(self, section), key)!r}"
            for section in type(self).model_fields
            for key, field in type(getattr(self, section)).model_fields.items()
            if getattr(getattr(self, section), key) != field.default
        ]
        return f"Config({listing(changed, 8)})"

    __str__ = __repr__

    @model_validator(mode="after")
    def _check_stride(self) -> "Config":
        if self.extensions.residual and self.student.stride < 16:
            raise ValueError(
                f"extensions.residual: student.stride = {self.student.stride} is finer than the teacher's; set it to 16"
            )
        if not self.extensions.residual and self.student.stride > 8:
            raise ValueError(f"student.stride = {self.student.stride} needs extensions.residual; set it to 4 or 8")
        return self

    @model_validator(mode="after")
    def _check_mode(self) -> "Config":
        if self.prototypes.per_class == "nearest" and self.objective.mode != "clips4":
            raise ValueError(
                f"prototypes.per_class = 'nearest': objective.mode = {self.objective.mode!r} has no prototypes; leave "
                "out one of them"
            )
        return self

    def decisive(self) -> dict[str, Any]:
        """The settings that the weights depend on, given the same number of images per step.

        Returns:
            section -> key -> value, without the keys of later versions that are at their default, so that hashes of
            earlier runs stay.

        Example:
            >>> "steps" in Config().decisive()["train"]
            True
        """
        values = self.model_dump(mode="json")
        for section, keys in _INDIFFERENT.items():
            for key in keys:
                del values[section][key]
        for section, key in _LATER:
            if values[section][key] == type(getattr(self, section)).model_fields[key].default:
                del values[section][key]
        return values


_INDIFFERENT = {
    "data": ("workers", "inference_side", "inference_short_side"),
    "teacher": ("cache_gib", "cache_files", "batch"),
    "objective": ("chunk_mib",),
    "extensions": ("prediction_context",),
    "train": (
        *("batch", "gradient_checkpointing", "max_nonfinite_steps", "save_every", "keep_checkpoints"),
        *("eval_every", "stall_timeout"),
    ),
}
_LATER = (("prototypes", "per_class"), ("teacher", "proxy"), ("train", "compile"))


def preset_names() -> list[str]:
    """List the presets that come with the package."""
    return sorted(path.name.removesuffix(".yaml") for path in PRESETS.iterdir() if path.name.endswith(".yaml"))


def known_keys() -> list[str]:
    """List all keys as ``section.key``."""
    sections = Config.model_fields
    return [
        f"{section}.{key}"
        for section in sections
        for key in sections[section].annotation.model_fields  # type: ignore[union-attr]
    ]


def load_config(preset: str | Path = "cpu", overrides: Sequence[str] = ()) -> Config:
    """Load a preset or a YAML file, and apply overrides.

    Args:
        preset: one of ``preset_names()``, or the path of a YAML file.
        overrides: ``section.key=value`` strings; values are YAML. Later ones win.

    Returns:
        The validated configuration. Old keys (``RENAMED`` and ``FIXED`` of ``config_renames``) give a FutureWarning.

    Raises:
        UserError: an unknown preset or key, or an invalid value; the message suggests the nearest key.

    Example:
        >>> load_config("cpu", ["train.steps=200"]).train.steps
        200
    """
    if str(preset) in preset_names():
        text = PRESETS.joinpath(f"{preset}.yaml").read_text("utf-8")
    elif Path(preset).is_file():
        try:
            text = read_bytes(Path(preset), _YAML_BYTES).decode()
        except UnicodeDecodeError:
            raise UserError(f"{preset}: not a UTF-8 text file; write the configuration as YAML")
    else:
        raise UserError(f"unknown preset {str(preset)!r}; give one of {', '.join(preset_names())}, or a YAML file")
    values = _read_yaml(text, str(preset)) or {}
    if not isinstance(values, dict):
        raise UserError(f"{preset}: has no sections; write section: and below it key: value")
    for section, keys in values.items():
        if keys is not None and not isinstance(keys, dict):
            raise UserError(f"{preset}: section {section!r} has no keys; write key: value below it")
    sections = _renamed({section: dict(keys or {}) for section, keys in values.items()}, str(preset))
    for override in overrides:
        _apply(sections, override)
    return parse_config(sections, str(preset))


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """The same configuration with ``section.key=value`` strings applied.

    Raises:
        UserError: an unknown key or an invalid value.
    """
    sections = config.model_dump()
    for override in overrides:
        _apply(sections, override)
    return parse_config(sections, "settings")


def saved_config(values: Mapping[str, Any], source: str) -> Config:
    """Validate the values of a saved run; one that was saved before teachers were calibrated is in the raw space.

    Raises:
        UserError: see ``parse_config``.
    """
    teacher = values.get("teacher")
    if isinstance(teacher, Mapping):
        values = {**values, "teacher": {"calibrate": False, **teacher}}
    return parse_config(values, source)


def _renamed(sections: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Rename old keys, with a warning for each."""
    current, old_keys, fixed = with_current_keys(sections, source)
    for key in fixed:
        warnings.warn(f"{source}: {key} is fixed at this value; leave it out", FutureWarning, stacklevel=3)
    for old in old_keys:
        warnings.warn(f"{source}: {old} is now called {RENAMED[old]}", FutureWarning, stacklevel=3)
    return current


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's plain values: 010, 1_000, 1:30, on and 2020-01-01 are text for the schema."""


_Loader.yaml_implicit_resolvers = {}


for _tag, _pattern, _first in (
    ("null", "~|null|Null|NULL|", "~nN"),
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, *([""] if _tag == "null" else [])]
    )


def _read_yaml(text: str, source: str) -> Any:
    """The values of a YAML text of limited size, depth and repetition."""
    try:
        if len(text) > _YAML_BYTES:
            raise ValueError(f"longer than {_YAML_BYTES} characters")
        tree = yaml.compose(text, _Loader)
        if tree is not None and _count_nodes(tree, {}) > _YAML_NODES:
            raise ValueError("its aliases repeat too much")
        return yaml.load(text, _Loader)  # a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{source}: invalid YAML ({printable(str(error).splitlines()[0][:120])})")
    except (TypeError, LookupError, AttributeError, ArithmeticError):  # of the loader's constructors
        raise UserError(f"{source}: invalid YAML (a value is not what its tag says)")


def _count_nodes(node: yaml.Node, sizes: dict[int, int], depth: int = 0) -> int:
    """Nodes below one, each as often as aliases repeat it."""
    if depth > _YAML_DEPTH:
        raise ValueError(f"nested more than {_YAML_DEPTH} levels deep")
    if id(node) not in sizes:
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = [each for child in children for each in (child if isinstance(child, tuple) else (child,))]
        sizes[id(node)] = 1 + sum(_count_nodes(each, sizes, depth + 1) for each in flat)
    return sizes[id(node)]


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"setting {override!r}: write section.key=value, e.g. train.steps=200")
    section, _, name = key.partition(".")
    source = f"setting {override}"
    for part, keys in _renamed({section: {name: _read_yaml(text, source)}}, source).items():
        for each, given in keys.items():
            if f"{part}.{each}" not in known_keys():
                raise UserError(f"setting {override!r}: unknown key {key!r}{_did_you_mean(key)}")
            values.setdefault(part, {})[each] = given


def _did_you_mean(key: str) -> str:
    near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else ""


def parse_config(values: Mapping[str, Any], source: str) -> Config:
    """Validate plain values.

    Args:
        values: section -> key -> value; old keys are renamed, and those that became constants left out.
        source: where the values come from, for the message.

    Raises:
        UserError: an unknown key or an invalid value; the message names the first one. Likewise a key that became a
            constant, with another value.
    """
    try:
        return Config.model_validate(with_current_keys(values, source).values)
    except ValidationError as error:
        first = error.errors()[0]
        if len(first["loc"]) > 2 and isinstance(first["loc"][2], str):  # each kind of a union refuses on its own
            place = first["loc"][:2]
            refusals = [each["msg"].partition(",")[0] for each in error.errors() if each["loc"][:2] == place]
            first = {**first, "loc": place, "msg": ", or: ".join(refusals)}
        key = printable(".".join(str(part) for part in first["loc"]))[:80]
        given = printable(repr(first["input"]))[:80]
        if first["type"] == "extra_forbidden":
            raise UserError(f"{source}: unknown key {key!r}{_did_you_mean(key)}")
        if first["type"] == "value_error":
            # of several keys together the message names them
            name = f"{key} = {given}: " if len(first["loc"]) > 1 else ""
            raise UserError(f"{source}: {name}{first['msg'].removeprefix('Value error, ')}")
        raise UserError(f"{source}: {key} = {given}: {first['msg'].lower()}")
