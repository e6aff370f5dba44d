"""Configuration keys of earlier versions, so that their runs and files still load."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from clips4.errors import UserError

RENAMED: dict[str, str] = {
    "data.flip": "data.flip_prob",
    "data.jitter_probability": "data.jitter_prob",
    "data.grey": "data.grayscale_prob",
    "regions.reading_side": "regions.max_side",
    "teacher.reading": "teacher.dense_attention",
    "teacher.doubt": "teacher.confidence_dim",
    "prototypes.step": "prototypes.unknown_step",
    "prototypes.unknown_share": "extensions.unknown_share",
    "prototypes.rounds": "extensions.em_iterations",
    "prototypes.mixture_temperature": "extensions.em_temperature",
    "prototypes.prior": "extensions.prior_weight",
    "prototypes.unknown_in_fit": "extensions.unknown_in_fit",
    "objective.text_weight": "extensions.text_weight",
    "objective.context": "extensions.context",
    "objective.unknown_apart": "extensions.unknown_apart",
    "objective.spare_same_class": "extensions.exclude_same_class",
    "objective.matrix_mib": "objective.chunk_mib",
    "extensions.answer_context": "extensions.prediction_context",
    "train.rate": "train.lr",
    "train.backbone_rate": "train.backbone_lr",
    "train.power": "train.poly_power",
    "train.clip": "train.max_grad_norm",
    "train.patience": "train.max_nonfinite_steps",
    "train.keep": "train.keep_checkpoints",
    "train.watch_every": "train.eval_every",
    "train.stall": "train.stall_timeout",
}

# keys that no preset, table or test varied: constants now, in the module that is named
FIXED: dict[str, Any] = {
    "data.aspect": [0.75, 1.333],  # data.views.ASPECT
    "data.jitter": [0.4, 0.4, 0.4, 0.1],  # data.views.JITTER
    "segments.location_weight": 0.5,  # method.segments.LOCATION_WEIGHT
    "extensions.em_temperature": 0.03,  # training.prototype_fitting.TEMPERATURE
    "extensions.affinity_radius": 2.0,  # models.affinity.RADIUS
}


class Renamed(NamedTuple):
    """Values under their current keys, and the renamed and the fixed keys that were found."""

    values: dict[str, Any]
    old_keys: tuple[str, ...]
    fixed: tuple[str, ...]


def with_current_keys(values: Mapping[str, Any], source: str) -> Renamed:
    """Rename old keys in nested configuration values, and leave out those that became constants.

    Args:
        values: section -> key -> value; anything else is passed on, for the schema to refuse.
        source: where the values come from, for the message.

    Returns:
        The same values with ``RENAMED`` applied and without ``FIXED``; a key given under both names keeps the value of
        the new one.

    Raises:
        UserError: a key of ``FIXED`` with another value than the constant.

    Example:
        >>> with_current_keys({"train": {"rate": 0.1}}, "run.yaml").values
        {'train': {'lr': 0.1}}
    """
    current: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    found = []
    for old, new in RENAMED.items():
        section, key = old.split(".")
        keys = current.get(section)
        if not isinstance(keys, dict) or key not in keys:
            continue
        found.append(old)
        new_section, new_key = new.split(".")
        value = keys.pop(key)
        target = current.setdefault(new_section, {})
        if isinstance(target, dict):
            target.setdefault(new_key, value)
    fixed = []
    for each in FIXED:
        section, key = each.split(".")
        keys = current.get(section)
        if isinstance(keys, dict) and key in keys:
            given, constant = keys.pop(key), FIXED[each]
            if (list(given) if isinstance(given, tuple) else given) != constant:
                raise UserError(f"{source}: {each} = {given}: is fixed at {constant}; leave the key out")
            fixed.append(each)
    return Renamed(current, tuple(found), tuple(fixed))
