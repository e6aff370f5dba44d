"""Ablations: one run per setting, each scored alike, one table; what is finished is never done again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from clips4.config import Config, known_keys, load_config, parse_config
from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import ClassList, load_classes
from clips4.data.image_folder import find_images
from clips4.errors import UserError
from clips4.evaluation.protocols import V1, known_classes
from clips4.evaluation.record import write_json
from clips4.evaluation.run import Record, evaluate_by_language
from clips4.models.checkpoint import checkpoint_folders
from clips4.models.teachers.base import pinned
from clips4.outputs.tables import markdown, percent
from clips4.training.loop import train
from clips4.utils.atomic_io import write_atomically
from clips4.utils.output_folder.names import check_out_folder
from clips4.utils.output_folder.output import Output, check_command
from clips4.utils.progress import ProgressReporter
from clips4.utils.text import read_json

SCORES, TABLE = "scores.json", "table.md"


@dataclass(frozen=True)
class Variant:
    """One setting of an ablation.

    Attributes:
        name: of its row and folder.
        overrides: ``section.key=value``, in addition to those of all variants.
    """

    name: str
    overrides: tuple[str, ...]


def losses() -> list[Variant]:
    """L_t, L_t + L_e, L_t + L_s, all three (the paper's table); L_e alone; and L_e + L_s."""
    return [
        Variant("L_e", ("objective.contrast_weight=0", "objective.semantic_weight=0")),
        Variant("L_t", ("objective.embedding_weight=0", "objective.semantic_weight=0")),
        Variant("L_t + L_e", ("objective.semantic_weight=0",)),
        Variant("L_t + L_s", ("objective.embedding_weight=0",)),
        Variant("L_e + L_s", ("objective.contrast_weight=0",)),
        Variant("L_t + L_e + L_s", ()),
    ]


def settings(key: str, name: str, values: Sequence[object]) -> list[Variant]:
    """One variant for each value of a setting."""
    return [Variant(f"{name} {value}", (f"{key}={value}",)) for value in values]


def variants(grid: Sequence[str]) -> list[Variant]:
    """The variants of a grid, e.g. ``["losses", "unknown=0,20", "regions.method=slic,felzenszwalb"]``.

    "vectors" needs no run of its own: every run is scored by text and by prototypes.

    Raises:
        UserError: an unknown axis, or something other than numbers.
    """
    found: list[Variant] = []
    for axis in grid:
        name, _, values = axis.partition("=")
        if name == "losses" and not values:
            found += losses()
        elif name in ("unknown", "m"):
            try:
                chosen = (
                    [int(value) for value in values.split(",")]
                    if values
                    else {"unknown": [0, 20, 60], "m": [1, 16, 64]}[name]
                )
            except ValueError:
                raise UserError(f"--grid {axis!r}: write numbers, e.g. {name}=1,16,64")
            title = "unknown prototypes" if name == "unknown" else "m"
            found += settings(f"prototypes.{name}", title, chosen)
        elif name in known_keys() and values:
            found += settings(name, name, values.split(","))
        elif axis != "vectors":
            raise UserError(
                f"--grid {axis!r}: choose from losses, unknown, m, vectors (unknown=0,20 sets the numbers), or any "
                "setting with its values, e.g. regions.method=slic,felzenszwalb"
            )
    unique = {variant.name: variant for variant in found or [Variant("as it is", ())]}
    return list(unique.values())


def ablate(
    images: Sequence[Path],
    dataset: str,
    root: Path,
    out: Path,
    grid: Sequence[str],
    preset: str,
    overrides: Sequence[str],
    fold: int | None,
    classes: str | None,
    device: str,
    progress: ProgressReporter,
    seeds: Sequence[int] = (),
    protocol: str = V1,
) -> tuple[str, dict[str, dict[str, list[float | None]]]]:
    """Train and score every variant; an unfinished one is resumed, the scores of a finished one are read.

    Args:
        images: unlabeled, to train on.
        dataset, root: labeled set to score on.
        out: ``OUT/VARIANT/`` holds a run and its scores, with several seeds ``OUT/VARIANT/seed-N/``; ``OUT/table.md``
            the table.
        fold: of unknown classes, whose names no variant is trained with.
        classes: names to train with; those of the set (less the fold's) by default.
        seeds: every variant is trained with each, and the table has mean and standard deviation; by default with the
            one of the settings.
        protocol: one of ``protocols.PROTOCOLS``.

    Returns:
        The table in Markdown; and row -> score -> its value for each seed.
    """
    chosen = variants(grid)
    runs = {
        variant.name: [
            (out / _folder(variant.name) / place, load_config(preset, [*overrides, *variant.overrides, *seed]))
            for place, seed in [(f"seed-{seed}", [f"train.seed={seed}"]) for seed in seeds] or [("", [])]
        ]
        for variant in chosen
    }
    output = Output(out, "ablate", [], "")
    check_out_folder(out)
    check_command(output)
    trained_with = _classes(dataset, fold, classes)
    semantic_spec(dataset).load(root)  # a wrong root is reported before hours of training
    paths = find_images([str(image) for image in images])
    folder = images[0] if len(images) == 1 else None
    output.record_own([TABLE, *(f"{_folder(variant.name)}/" for variant in chosen)])
    rows: dict[str, dict[str, object]] = {}
    values: dict[str, dict[str, list[float | None]]] = {}
    columns = _columns(fold)
    for name, all_seeds in runs.items():
        records = []
        for run, config in all_seeds:
            record = _scored(run, config, protocol)
            if record is None:
                train(paths, trained_with, config, run, bool(checkpoint_folders(run)), device, progress)
                record = evaluate_by_language(
                    run, None, dataset, root, None, protocol, fold, None, folder, None, device, progress
                )
                write_json(run / SCORES, record)
            records.append(record)
        for same in zip(*(record["rows"] for record in records), strict=True):
            how = str(same[0]["row"]).removeprefix("student ")
            each_seed = {column: [row[column] for row in same] for column in columns}
            values[f"{name}, {how}"] = each_seed
            rows[f"{name}, {how}"] = {column: mean_and_deviation(found) for column, found in each_seed.items()}
        table = markdown(rows, columns)
        write_atomically(out / TABLE, (table + "\n").encode())
    return table, values


def mean_and_deviation(values: Sequence[float | None]) -> float | str | None:
    """The value; of several "mean ± standard deviation" in percent; None where a seed has none."""
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return None
    if len(found) == 1:
        return found[0]
    return f"{percent(mean(found))} ± {percent(stdev(found))}"


def _columns(fold: int | None) -> dict[str, str]:
    columns = {"miou_present": "mIoU", "pixel_accuracy": "pixel acc."}
    return columns | ({"miou_known": "known", "miou_unknown": "unknown"} if fold is not None else {})


def _classes(dataset: str, fold: int | None, classes: str | None) -> ClassList:
    if classes is not None:
        return load_classes(classes)
    return known_classes(dataset, fold) if fold is not None else load_classes(semantic_spec(dataset).class_file)


def _scored(run: Path, config: Config, protocol: str) -> Record | None:
    """The record of a finished variant; None if there is none.

    Raises:
        UserError: it was trained with other settings or scored by another protocol, or the record is damaged.
    """
    path = run / SCORES
    if not path.is_file():
        return None
    record = read_json(path)
    if not record.keys() >= {"config", "rows", "protocol"}:
        raise UserError(f"{path}: not a record of scores; remove it")
    saved = parse_config(record["config"], str(path))
    same_teacher = config.model_copy(update={"teacher": pinned(config.teacher, saved.teacher)})
    if saved.decisive() != same_teacher.decisive() or record["protocol"]["id"] != protocol:
        raise UserError(
            f"{run}: was scored with other settings or by another protocol; give another --out, or remove this folder"
        )
    return record


def _folder(name: str) -> str:
    return name.lower().replace(" + ", "+").replace(" ", "-")
