"""`clips4 score semantic|tracking`: any system's saved predictions; no model is needed."""

from pathlib import Path
from typing import Annotated

import typer

from clips4.cli import command
from clips4.cli.arguments import AsJson, Record, Split, option
from clips4.cli.command import Command
from clips4.cli.console import echo, print_record, print_table, progress_bars
from clips4.errors import UserError
from clips4.utils.text import plural

_COLUMNS = ("J&F", "J mean", "J recall", "J decay", "F mean", "F recall", "F decay")

app = typer.Typer(
    name="score",
    help="Score the saved predictions of any system against the truth; no model is needed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Predictions = Annotated[Path, typer.Option("--pred", help="Folder of predictions.")]
Truth = Annotated[Path, typer.Option("--gt", help="Folder of the truth; with --dataset the root of the set.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Number of processes, by default as the files need; it changes no score."),
]


@app.command(
    cls=Command,
    epilog="Example: clips4 score semantic --pred out/ --gt VOC2012/ --dataset voc21 --split val --record voc.json",
)
def semantic(
    pred: Predictions,
    gt: Truth,
    classes: Annotated[
        str | None,
        option(
            "--classes",
            "Class names (file, shipped list or a,b,c) in label order.",
            command.one_of(command.class_lists),
            "NAMES",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        option("--dataset", "Name of a set; then --gt is its root.", command.one_of(command.semantic_sets)),
    ] = None,
    split: Split = None,
    reduce_zero: Annotated[
        bool, typer.Option("--reduce-zero-label", help="Truth 0 is ignored and 1..K are classes 0..K-1.")
    ] = False,
    gt_ending: Annotated[
        str, typer.Option("--gt-ending", help="Ending that only true label maps have, such as _labelTrainIds.png.")
    ] = "",
    pred_ending: Annotated[
        str, typer.Option("--pred-ending", help="Ending of the predictions' names, such as _leftImg8bit.png.")
    ] = "",
    boundary: Annotated[bool, typer.Option(help="Score outlines too (slower).")] = True,
    as_json: AsJson = False,
    record_file: Record = None,
    workers: Workers = None,
) -> None:
    """mIoU, pixel accuracy, mean accuracy and boundary F of label PNGs (0..K-1, named like the images)."""
    from clips4.data.class_names import load_classes
    from clips4.evaluation.predictions import folder_truth, score_semantic
    from clips4.evaluation.protocols import SCORE_SEMANTIC, class_file_hash, set_truth
    from clips4.evaluation.record import describe_semantic, provenance
    from clips4.outputs.tables import markdown

    if (classes is None) == (dataset is None):
        raise UserError("give --classes (for a folder of label PNGs) or --dataset (for a set), one of the two")
    if dataset is not None:
        if gt_ending:
            raise UserError("--gt-ending is for --classes; a set has its own names")
        truth, names = set_truth(dataset, gt, split)
    else:
        names = load_classes(str(classes))
        if names.ids and not (reduce_zero and names.ids == tuple(range(1, len(names) + 1))):
            raise UserError(
                f"{classes}: ids {names.ids[0]} to {names.ids[-1]}, but label values count from 0 without gaps; list "
                "names in the order of values, or give --reduce-zero-label where the ids are 1 to K"
            )
        truth = folder_truth(gt, len(names), reduce_zero, gt_ending)
    with progress_bars() as progress:
        result = score_semantic(truth, pred, boundary, workers, progress, pred_ending)
    record = describe_semantic(result, names.names)
    columns = {"miou": "mIoU", "pixel_accuracy": "pixel acc.", "mean_accuracy": "mean acc.", "boundary_f": "boundary F"}
    if not as_json:
        print_table(markdown({pred.name: record}, columns))
    if result.extra:
        echo(f"not scored: {plural(result.extra, 'prediction')} without a truth", err=True)
    fields = {
        "protocol": SCORE_SEMANTIC,
        "dataset": dataset,
        "split": split,
        "classes_hash": class_file_hash(names),
    }
    print_record({**fields, **provenance(), **record}, record_file, as_json)


@app.command(
    cls=Command, epilog="Example: clips4 score tracking --pred out/ --gt DAVIS/Annotations/480p --record davis.json"
)
def tracking(
    pred: Predictions,
    gt: Truth,
    rules: Annotated[
        str | None,
        option(
            "--rules",
            "davis16 or davis17; by default each sequence by its own true masks.",
            command.one_of(("davis16", "davis17")),
        ),
    ] = None,
    sequences: Annotated[
        Path | None, typer.Option("--sequences", help="A file with one sequence a line, e.g. ImageSets/2017/val.txt.")
    ] = None,
    as_json: AsJson = False,
    record_file: Record = None,
    workers: Workers = None,
) -> None:
    """J and F (mean, recall, decay) of masks PRED/SEQUENCE/FRAME.png by the rules of DAVIS."""
    from clips4.evaluation.predictions import score_tracking
    from clips4.evaluation.protocols import SCORE_TRACKING
    from clips4.evaluation.record import describe_tracking_report, provenance
    from clips4.outputs.tables import markdown
    from clips4.utils.text import first_columns

    if rules not in (None, "davis16", "davis17"):
        raise UserError(f"--rules {rules!r}: give davis16 or davis17")
    names = None
    if sequences is not None:
        if not sequences.is_file():
            raise UserError(f"{sequences}: no such file; give one sequence a line")
        names = first_columns(sequences)
    with progress_bars() as progress:
        report = score_tracking(gt, pred, rules, names, workers, progress)  # type: ignore[arg-type]
    scores = report.scores
    values = dict(zip(_COLUMNS, (scores.j_and_f, *scores.j, *scores.f), strict=True))
    if not as_json:
        print_table(markdown({pred.name: values}, dict(zip(_COLUMNS, _COLUMNS, strict=True))))
    rules_used = sorted(set(report.rules.values()))
    late = f", {report.late} of them after the first frame" if report.late else ""
    echo(f"rules {' and '.join(rules_used)}; {plural(len(scores.tracks), 'object')}{late}", err=True)
    if len(rules_used) > 1:
        merged = [name for name, own in report.rules.items() if own == "davis16"]
        where = plural(len(merged), "sequence")
        echo(f"objects are merged (davis16) in {where}: {', '.join(merged[:8])}", err=True)
    if report.unscored:
        late_objects = plural(len(report.unscored), "object")
        echo(f"not scored, appearing too late: {late_objects}: {', '.join(report.unscored[:8])}", err=True)
    if report.extra_frames or report.extra_sequences:
        frames, videos = plural(report.extra_frames, "frame"), plural(len(report.extra_sequences), "sequence")
        echo(f"not scored: {frames} and {videos} without a truth", err=True)
    record = {"protocol": SCORE_TRACKING, **provenance(), **describe_tracking_report(report)}
    print_record(record, record_file, as_json)
