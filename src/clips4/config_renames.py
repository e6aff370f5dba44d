"""Old names of configuration keys, so that runs and files of earlier versions still load."""

from collections.abc import Mapping
from typing import Any, NamedTuple

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


class Renamed(NamedTuple):
    """Values under their current keys, and the old keys that were found."""

    values: dict[str, Any]
    old_keys: tuple[str, ...]


def with_current_keys(values: Mapping[str, Any]) -> Renamed:
    """Rename old keys in nested configuration values.

    Args:
        values: section -> key -> value; anything else is passed on, for the schema to refuse.

    Returns:
        The same values with ``RENAMED`` applied; a key given under both names keeps the value of the new one.

    Example:
        >>> with_current_keys({"train": {"rate": 0.1}}).values
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
    return Renamed(current, tuple(found))
