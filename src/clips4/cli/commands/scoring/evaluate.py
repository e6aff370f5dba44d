"""`clips4 evaluate language|unsupervised|tracking`: a run on a set, by a protocol."""

from pathlib import Path
from typing import Annotated, Any

import typer

from clips4.cli import command
from clips4.cli.arguments import (
    AsJson,
    Classes,
    Dataset,
    Device,
    Examples,
    Fold,
    Protocol,
    Record,
    Split,
    TeacherOverrides,
    Use,
    option,
)
from clips4.cli.command import Command
from clips4.cli.console import echo, print_record, print_table, progress_bars
from clips4.cli.shell import current_values
from clips4.errors import UserError

app = typer.Typer(
    name="evaluate",
    help="Score a run on a labeled set by a protocol, which is stored with the score.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Run = Annotated[
    Path | None, typer.Argument(help="Folder of a run; without one, a teacher alone or untrained features.")
]
Root = Annotated[Path, typer.Option("--root", help="Folder that the set's archives unpack to.")]
Report = Annotated[
    Path | None, typer.Option("--report", help="Folder for plots: confusion matrix, ten worst images, t-SNE.")
]
Features = Annotated[
    str,
    option(
        "--features",
        "One row each: student, backbone, color, still (tracking: the first mask, repeated), or parts such as "
        "student:z+c4 (docs/reference/protocols.md); with commas.",
        command.some_of(("student", "backbone", "color", "still")),
        "NAMES",
    ),
]
_MIOU = {"miou_present": "mIoU, classes present"}
Side = Annotated[int, typer.Option("--side", help="Long side to which images are reduced, in pixels.")]


@app.command(
    cls=Command,
    epilog="Example: clips4 evaluate language runs/coco --dataset coco128 --root coco128/ --record out.json",
)
def language(
    dataset: Dataset,
    root: Root,
    run: Run = None,
    teacher: Annotated[
        str | None,
        option(
            "--teacher",
            "Score a teacher alone too: its name, or 'run' for that of the run.",
            command.one_of(lambda: ["run", *command.teachers()]),
        ),
    ] = None,
    split: Split = None,
    protocol: Protocol = "clips4-v1",
    fold: Fold = None,
    classes: Annotated[
        str | None,
        option("--classes", "Class list with the same names and other synonyms.", command.one_of(command.class_lists)),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Unlabeled images in which to find prototypes of new names.")
    ] = None,
    key_smoothing: Annotated[
        bool, typer.Option("--key-smoothing", help="Add a row: the teacher refined as in MaskCLIP, by its keys.")
    ] = False,
    prompt_denoising: Annotated[
        bool, typer.Option("--prompt-denoising", help="Add that row without classes that are confident nowhere.")
    ] = False,
    affinity: Annotated[
        bool, typer.Option("--affinity", help="Add that row with a finer map along outlines in the teacher's features.")
    ] = False,
    refine: Annotated[
        str | None,
        option(
            "--refine",
            "Add a row of the student, and refine the teacher's row: pamr, regions or lposs; see clips4 segment.",
            command.one_of(("pamr", "regions", "lposs")),
        ),
    ] = None,
    settings: TeacherOverrides = None,
    as_json: AsJson = False,
    record_file: Record = None,
    report: Report = None,
    device: Device = "auto",
) -> None:
    """Segment by class names; mIoU of known, unknown and all classes."""
    from clips4.config import Config, with_overrides
    from clips4.evaluation.run import evaluate_by_language
    from clips4.inference.refine.maskclip import Refinement

    if settings and run is not None:
        raise UserError("--set is for a teacher alone; a run is scored with its own settings")
    with progress_bars() as progress:
        record = evaluate_by_language(
            run,
            teacher,
            dataset,
            root,
            split,
            protocol,
            fold,
            classes,
            images,
            report,
            device,
            progress,
            Refinement(prompt_denoising, key_smoothing, affinity=affinity),
            with_overrides(Config(), settings) if settings else None,
            refine,  # type: ignore[arg-type]  # checked there
        )
    columns = _MIOU | {"miou": "mIoU, present or predicted", "pixel_accuracy": "pixel acc."}
    if fold is not None:
        columns |= {"miou_known": "known", "miou_unknown": "unknown"}
    _report(record, columns, record_file, as_json)


@app.command(
    cls=Command,
    epilog="Example: clips4 evaluate unsupervised runs/cv --dataset camvid11 --root cv/ --features student,backbone",
)
def unsupervised(
    dataset: Dataset,
    root: Root,
    run: Run = None,
    features: Features = "student",
    tasks: Annotated[
        str,
        option(
            "--tasks",
            "Some of clusters, knn, linear-probe; with commas.",
            command.some_of(("clusters", "knn", "linear-probe")),
            "NAMES",
        ),
    ] = "clusters",
    split: Split = None,
    labeled: Annotated[
        str,
        option(
            "--labeled", "Split with the labels that knn and linear-probe learn from.", command.one_of(command.splits)
        ),
    ] = "train",
    k: Annotated[
        int | None,
        typer.Option("--k", help="Number of clusters; by default the number of classes. More is overclustering."),
    ] = None,
    side: Side = 480,
    restarts: Annotated[int, typer.Option("--restarts", help="Restarts of k-means.")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="Of k-means and the linear probe.")] = 0,
    as_json: AsJson = False,
    record_file: Record = None,
    report: Report = None,
    device: Device = "auto",
) -> None:
    """Clusters matched to the truth, nearest labeled neighbors, or a linear probe: three different numbers."""
    from clips4.evaluation.run import evaluate_unsupervised
    from clips4.evaluation.unsupervised.clusters import ClusterRecipe
    from clips4.evaluation.unsupervised.knn import RetrievalRecipe
    from clips4.evaluation.unsupervised.linear_probe import LinearProbeRecipe

    with progress_bars() as progress:
        record = evaluate_unsupervised(
            run,
            current_values(features),
            current_values(tasks),
            dataset,
            root,
            split,
            labeled,
            side,
            ClusterRecipe(k=k, restarts=restarts, seed=seed),
            RetrievalRecipe(),
            LinearProbeRecipe(seed=seed),
            report,
            device,
            progress,
        )
    _report(record, {"miou": "mIoU", **_MIOU, "pixel_accuracy": "pixel acc."}, record_file, as_json)


@app.command(
    cls=Command,
    epilog="Example: clips4 evaluate tracking runs/coco --dataset davis16 --root DAVIS/ --features still,student",
)
def tracking(
    dataset: Annotated[str, option("--dataset", "davis16 or davis17.", command.one_of(("davis16", "davis17")))],
    root: Root,
    run: Run = None,
    features: Features = "student",
    split: Split = None,
    side: Side = 854,  # short side 480
    radius: Annotated[
        int, typer.Option("--radius", help="Largest motion between frames, in positions of the feature map.")
    ] = 12,
    as_json: AsJson = False,
    record_file: Record = None,
    device: Device = "auto",
) -> None:
    """Propagate the first mask by similarity of features; J and F by the rules of DAVIS."""
    from clips4.evaluation.vos import evaluate_tracking
    from clips4.inference.video.label_propagation import Recipe

    with progress_bars() as progress:
        record = evaluate_tracking(
            run, current_values(features), dataset, root, split, side, Recipe(radius=radius), device, progress
        )
    for row in record["rows"]:
        row |= {"j_mean": row["j"]["mean"], "f_mean": row["f"]["mean"]}
    _report(record, {"j_and_f": "J&F", "j_mean": "J mean", "f_mean": "F mean"}, record_file, as_json)


@app.command(cls=Command, epilog="Example: clips4 evaluate labels runs/pets --labels my_labels/ --record out.json")
def labels(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    folder: Annotated[
        Path, typer.Option("--labels", help="Folder of labeled images: labelme, CVAT, COCO, VOC, or label maps.")
    ],
    classes: Classes = None,
    examples: Examples = None,
    use: Use = "auto",
    as_json: AsJson = False,
    record_file: Record = None,
    device: Device = "auto",
) -> None:
    """Your own labeled images: mIoU of what clips4 segment predicts."""
    from clips4.evaluation.own_labels import evaluate_labels

    with progress_bars() as progress:
        record = evaluate_labels(run, folder, classes, examples, device, progress, use)  # type: ignore[arg-type]
    _report(record, {"miou": "mIoU", **_MIOU, "pixel_accuracy": "pixel acc."}, record_file, as_json)


def _report(record: dict[str, Any], columns: dict[str, str], record_file: Path | None, as_json: bool) -> None:
    from clips4.outputs.tables import markdown

    if not as_json:
        print_table(markdown({row["row"]: row for row in record["rows"]}, columns))
    protocol = record["protocol"]["id"]
    echo(f"protocol {protocol}, {record['dataset']} {record['split']}", err=True)
    print_record(record, record_file, as_json)
