"""`clips4 segment`: images to label maps, overlays and other formats."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from clips4.cli import command
from clips4.cli.arguments import (
    AsJson,
    Classes,
    Device,
    Examples,
    Force,
    Out,
    Save,
    TeacherOnly,
    TeacherOverrides,
    Use,
    check_run_first,
    expand_paths,
    option,
)
from clips4.cli.console import print_note, print_outcome, progress_bars
from clips4.errors import UserError


def segment(
    run_and_images: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN IMAGES...",
            help="The run, then images, folders, video files, or shards; - for a list on standard input.",
            callback=expand_paths,
        ),
    ],
    out: Out,
    classes: Classes = None,
    examples: Examples = None,
    save: Save = "png,overlay,json",
    vectors: Annotated[
        str, option("--vectors", "Class vectors: prototypes or text.", command.one_of(("prototypes", "text")))
    ] = "prototypes",
    unknown: Annotated[bool, typer.Option(help="Predict 'unknown' if an unknown prototype is nearest.")] = True,
    background: Annotated[
        str | None,
        typer.Option("--background", help="Which pixels are 'background': 0.4 (probability), 'cosine 0.2', or names."),
    ] = None,
    scales: Annotated[str, typer.Option("--scales", help="Sizes to encode and average, e.g. 1,2.")] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Encode the mirrored image too, and average.")] = False,
    window: Annotated[
        int | None,
        typer.Option("--window", help="Encode in windows of this side, in pixels of the resized image; see --scales."),
    ] = None,
    overlap: Annotated[float, typer.Option("--overlap", help="Share of a window that the next covers again.")] = 0.5,
    refine: Annotated[
        str | None,
        option(
            "--refine",
            "Refine the classes: pamr (to the image's edges), regions (superpixels) or lposs (over what looks alike).",
            command.one_of(("pamr", "regions", "lposs")),
        ),
    ] = None,
    steady: Annotated[
        float,
        typer.Option("--steady", help="Videos: weight of earlier frames in a frame's embeddings; 0 is frame by frame."),
    ] = 0.8,
    force: Force = False,
    as_json: AsJson = False,
    teacher_only: TeacherOnly = None,
    dense_attention: Annotated[
        str | None,
        option(
            "--dense-attention",
            "Teacher only: maskclip, sclip, clearclip, naclip, proxyclip (needs teacher.proxy), sc-clip or vanilla.",
            command.one_of(("maskclip", "sclip", "clearclip", "naclip", "proxyclip", "sc-clip", "vanilla")),
        ),
    ] = None,
    templates: Annotated[
        str | None,
        option("--templates", "Teacher only: simple, imagenet-80 or maskclip-85.", command.one_of(command.templates)),
    ] = None,
    key_smoothing: Annotated[
        bool,
        typer.Option("--key-smoothing", help="Teacher only: average over positions with similar keys (MaskCLIP)."),
    ] = False,
    prompt_denoising: Annotated[
        bool,
        typer.Option("--prompt-denoising", help="Teacher only: drop classes confident nowhere (MaskCLIP)."),
    ] = False,
    affinity: Annotated[
        bool,
        typer.Option("--affinity", help="Teacher only: a finer map along outlines in its own features."),
    ] = False,
    retrieve: Annotated[
        Path | None,
        typer.Option(
            "--retrieve",
            help="Teacher only: unlabeled images; the segments nearest to a name there stand in place of its text.",
        ),
    ] = None,
    settings: TeacherOverrides = None,
    use: Use = "auto",
    device: Device = "auto",
) -> None:
    """Predict the class of every pixel: a label PNG, an overlay and JSON per image; COCO, YOLO, a gallery."""
    from clips4.annotations.folder import open_labels
    from clips4.data.class_names import describe_classes, load_classes
    from clips4.data.image_folder import find_images
    from clips4.inference.examples import example_vectors
    from clips4.inference.jobs.load import TeacherOptions, load_segmenter, parse_inference_options
    from clips4.inference.jobs.segment import segment_files
    from clips4.inference.jobs.shards import PLACE
    from clips4.inference.retrieval import retrieved_vectors, with_background
    from clips4.inference.video.temporal_smoothing import Steadiness
    from clips4.utils.atomic_io import lock_folder
    from clips4.utils.distributed import launched_share
    from clips4.utils.output_folder.ranks import lock_for_rank
    from clips4.utils.text import plural

    if not teacher_only:
        check_run_first(run_and_images, "clips4 segment")
    teacher = TeacherOptions(
        dense_attention, templates, key_smoothing, prompt_denoising, affinity, tuple(settings or ())
    )
    options = parse_inference_options(scales, flip, window, overlap, refine)
    names = None if classes is None else load_classes(classes)
    if teacher_only and classes is None and examples is None:
        raise UserError("--teacher-only: a teacher has no classes of its own; give --classes")
    if examples is not None and vectors == "text":
        raise UserError("--examples stand in place of prototypes, which --vectors text does not use; leave one out")
    if retrieve is not None and (not teacher_only or names is None or vectors == "text"):
        raise UserError("--retrieve: goes with --teacher-only and --classes, without --vectors text")
    labeled = None if examples is None else open_labels(examples, names)
    if labeled is not None:
        names = labeled.classes
    if names is not None:
        print_note(describe_classes(names))
    share = launched_share()
    if PLACE in out.name:
        lock: AbstractContextManager[None] = nullcontext()  # each shard is locked while it is written
    else:
        lock = lock_for_rank(out, share.rank) if share.ranks > 1 else lock_folder(out)
    with progress_bars() as progress, lock:
        loaded = load_segmenter(run_and_images, teacher_only, share.device(device), teacher, options, use)
        if retrieve is not None and names is not None:
            wanted, unlabeled = with_background(names, background), find_images(retrieve)
            rows = retrieved_vectors(loaded.segmenter, wanted, unlabeled, teacher.settings()[0], progress)
            loaded.segmenter.classifier.retrieved = rows
        if labeled is not None:
            loaded.segmenter.classifier.examples = example_vectors(loaded.segmenter, labeled, progress)
            found = ", ".join(loaded.segmenter.classifier.examples)
            print_note(f"{plural(len(labeled), 'labeled image')} with examples of {found}")
        outcome = segment_files(
            loaded, out, names, save, vectors, unknown, background, Steadiness(steady), force, progress, share
        )
    print_outcome(outcome, "Segmented", f"into {out}", out, as_json)
