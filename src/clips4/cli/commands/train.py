"""`clips4 train`: a student from unlabeled images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clips4.cli import command
from clips4.cli.arguments import AsJson, Device, Overrides, expand_paths, option
from clips4.cli.console import print_note, print_skipped, print_summary, progress_bars, stop
from clips4.errors import UserError

if TYPE_CHECKING:
    from clips4.data.class_names import ClassList


def train(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Images, folders or lists (.txt) of them, or shards: dir/{000..099}.tar, s3://a/{000..099}.tar, or a "
            "folder of parquet files; - reads a list from standard input.",
            callback=expand_paths,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        option(
            "--classes",
            "A file with one name per line ('name: alias, alias'), a shipped list, or a,b,c.",
            command.one_of(command.class_lists),
            "NAMES",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        option(
            "--dataset",
            "Instead of IMAGES and --classes: a published set, e.g. voc20.",
            command.one_of(command.semantic_sets),
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Folder that the set's archives unpack to.")] = None,
    split: Annotated[
        str | None,
        option(
            "--split",
            "Split of the set to train on, without its labels; by default train.",
            command.one_of(command.splits),
        ),
    ] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", help="Leave out the names of this fold's unknown classes; images stay.")
    ] = None,
    teacher: Annotated[
        str | None,
        option(
            "--teacher",
            "conse, a saved CLIP folder, or a hub id: owner/name, owner/name@revision.",
            command.one_of(command.teachers),
        ),
    ] = None,
    preset: Annotated[
        str | None,
        option(
            "--preset",
            "auto (chooses by the number of images; the default), a shipped preset (see below), or a YAML file.",
            command.one_of(command.presets_or_auto),
        ),
    ] = None,
    overrides: Overrides = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="A few labeled images (labelme, CVAT, COCO, VOC, or label maps): their pixels make the prototypes of "
            "their classes.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the newest checkpoint of the run.")] = False,
    as_json: AsJson = False,
    validate: Annotated[
        str | None,
        option(
            "--validate",
            "Score this labeled set every train.eval_every steps.",
            command.one_of(lambda: [f"{name}=" for name in command.semantic_sets()]),
            "NAME=DIR",
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report/--no-report",
            help="Measure the run at its end on at most 32 images, and write report.html: seconds to a minute.",
        ),
    ] = True,
    device: Device = "auto",
) -> None:
    """Train a student on unlabeled images; under torchrun or Slurm, on many devices."""
    from clips4.annotations.folder import open_labels
    from clips4.data.class_names import describe_classes
    from clips4.evaluation.callbacks import make_callback, open_labeled
    from clips4.evaluation.own_labels import evaluate_labels
    from clips4.evaluation.report.collect import images_to_show
    from clips4.evaluation.report.page import PAGE, write_report
    from clips4.training.loop import Interrupted
    from clips4.training.loop import train as run_training
    from clips4.training.recipe import choose_config
    from clips4.utils import distributed
    from clips4.utils.text import plural

    paths, names = _images_and_names(images, classes, dataset, root, split, fold)
    chosen = [f"teacher.name={json.dumps(teacher)}"] if teacher else []
    config, reasons = choose_config(preset, paths, [*chosen, *(overrides or [])], out if resume else None, device)
    for line in reasons if distributed.rank() == 0 else ():
        print_note(line)
    print_note(describe_classes(names))
    labeled = open_labels(labels, names) if labels else None
    callback = make_callback(paths, config, out, open_labeled(validate, config) if validate else None)
    of_labels: dict[str, Any] | None = None
    try:
        with progress_bars() as progress:
            result = run_training(
                paths, names, config, out, resume, device, progress, callback, report=report, labels=labeled
            )
            if report and not distributed.rank():
                shown = images_to_show(result.training, result.held_out)
                write_report(out / PAGE, out, shown, device, progress, reasons)
            if labels and not distributed.rank():
                of_labels = evaluate_labels(out, labels, None, None, device, progress)["rows"][0]
    except Interrupted as interrupted:
        stop(f"Stopped and saved at step {interrupted.step}; run the same command with --resume.")
    if distributed.rank():  # the first of several processes reports
        return
    print_skipped(result.skipped)
    if result.left_out_steps:
        print_note(f"skipped {plural(result.left_out_steps, 'step')}: loss or gradient was not finite")
    if of_labels:
        print_note(
            f"labeled images: mIoU {100 * of_labels['miou_present']:.1f} % as clips4 segment predicts them; the "
            "prototypes come from their labels, so expect less on other images"
        )
    if result.quality:
        print_note(result.quality.line())
    print_summary(
        f"Trained on {plural(result.images, 'image')} ({len(result.skipped)} skipped), {plural(result.steps, 'step')}. "
        f"{f'Report: {out / PAGE}. ' if report else ''}Next: clips4 segment {out} IMAGES --out DIR",
        {
            "run": out,
            "images": result.images,
            "skipped": {str(path): reason for path, reason in result.skipped},
            "steps": result.steps,
            "labeled": of_labels,
            "quality": json.loads(result.quality.to_json()) if result.quality else None,
        },
        as_json,
    )


def _images_and_names(
    images: list[Path] | None,
    classes: str | None,
    dataset: str | None,
    root: Path | None,
    split: str | None,
    fold: int | None,
) -> "tuple[list[Path], ClassList]":
    """What to train on and the names to train with: given as such, or those of a published set."""
    from clips4.data.class_names import load_classes

    if dataset is not None:
        from clips4.evaluation.protocols import training_set

        if images or root is None:
            raise UserError("--dataset takes its images from --root DIR; give both, and no IMAGES")
        if classes is not None and fold is not None:
            raise UserError("--fold chooses the names to train with; leave out --classes")
        paths, names = training_set(dataset, root, split, fold)
        return paths, names if classes is None else load_classes(classes)
    from clips4.data.image_source import find_training_images

    if not images or classes is None:
        raise UserError("give IMAGES and --classes NAMES, or --dataset NAME --root DIR")
    if root is not None or split is not None or fold is not None:
        raise UserError("--root, --split and --fold belong to --dataset NAME; give it, or leave them out")
    return find_training_images(images), load_classes(classes)
