"""`clips4 segment`: pictures into label maps, overlays and the formats of others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clips4.cli.arguments import expand_paths
from clips4.cli.console import outcome_record, print_note, print_summary
from clips4.errors import UserError

if TYPE_CHECKING:
    from clips4.data.image_folder import JobOutcome


def segment(
    run_and_images: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN IMAGES...",
            help="The run, then pictures, folders, or video files; - for a list on the standard input.",
            callback=expand_paths,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    classes: Annotated[
        str | None, typer.Option("--classes", help="What to ask for (file, shipped list or a,b,c); the run's classes.")
    ] = None,
    save: Annotated[
        str, typer.Option("--save", help="Some of png,overlay,json,coco,panoptic,yolo,npz,gallery.")
    ] = "png,overlay,json",
    vectors: Annotated[str, typer.Option("--vectors", help="Class vectors: prototypes or text.")] = "prototypes",
    unknown: Annotated[bool, typer.Option(help="Answer 'unknown' where an unknown prototype is nearest.")] = True,
    background: Annotated[
        str | None,
        typer.Option("--background", help="Answer 'background' below a probability (0.4), 'cosine 0.2', or by words."),
    ] = None,
    scales: Annotated[str, typer.Option("--scales", help="Sizes read and averaged, e.g. 1,2.")] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Read mirrored, too, and average.")] = False,
    window: Annotated[
        int | None, typer.Option("--window", help="Read in windows of this side, in pixels as read; see --scales.")
    ] = None,
    overlap: Annotated[float, typer.Option("--overlap", help="Share of a window that the next covers again.")] = 0.5,
    refine: Annotated[
        str | None, typer.Option("--refine", help="To the picture's edges: pamr, or regions (superpixels).")
    ] = None,
    steady: Annotated[
        float,
        typer.Option("--steady", help="Video files: share of the past in a frame's embeddings; 0 is frame by frame."),
    ] = 0.8,
    force: Annotated[bool, typer.Option("--force", help="Do again what was done by the same settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say for machines what was done.")] = False,
    teacher_only: Annotated[
        str | None, typer.Option("--teacher-only", help="No run: this teacher alone; all arguments are pictures.")
    ] = None,
    reading: Annotated[
        str | None, typer.Option("--reading", help="Teacher alone: maskclip, sclip, clearclip, naclip or vanilla.")
    ] = None,
    templates: Annotated[
        str | None, typer.Option("--templates", help="Teacher alone: simple, imagenet-80 or maskclip-85.")
    ] = None,
    key_smoothing: Annotated[
        bool, typer.Option("--key-smoothing", help="Teacher alone: average over positions with like keys (MaskCLIP).")
    ] = False,
    prompt_denoising: Annotated[
        bool, typer.Option("--prompt-denoising", help="Teacher alone: drop classes sure of no position (MaskCLIP).")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Name the pixels of pictures: for each a label PNG, an overlay with a legend, and JSON; COCO, YOLO, a gallery."""
    from clips4.cli.console import progress_bars
    from clips4.inference.jobs.segment import TeacherOptions, load_segmenter, parse_inference_options, segment_files
    from clips4.inference.video.temporal_smoothing import Steadiness

    options = TeacherOptions(reading, templates, key_smoothing, prompt_denoising)
    how = parse_inference_options(scales, flip, window, overlap, refine)
    with progress_bars() as progress:
        loaded = load_segmenter(run_and_images, teacher_only, device, options, how)
        outcome = segment_files(
            loaded, out, classes, save, vectors, unknown, background, Steadiness(steady), force, progress
        )
    report(outcome, "Segmented", out, as_json)


def report(outcome: "JobOutcome", verb: str, out: Path, as_json: bool = False) -> None:
    """Say what became of the pictures, for machines with ``as_json``.

    Raises:
        UserError: none of them could be read.
        typer.Exit: interrupted.
    """
    from clips4.utils.video import is_video

    for _, reason in outcome.skipped:
        print_note(f"skipped: {reason}")
    if outcome.interrupted:
        done = len(outcome.done) + len(outcome.kept)
        print_note(f"Stopped after {done} pictures; the same command goes on from there.")
        raise typer.Exit(130)
    kinds = {is_video(path) for path in (*outcome.done, *outcome.kept, *(path for path, _ in outcome.skipped))}
    what = "files" if len(kinds) > 1 else "videos" if True in kinds else "pictures"
    kept = f", {len(outcome.kept)} done before" if outcome.kept else ""
    text = f"{verb} {len(outcome.done)} {what} ({len(outcome.skipped)} skipped{kept}) into {out}."
    print_summary(
        text, {**outcome_record(outcome), "done_before": [str(path) for path in outcome.kept], "out": out}, as_json
    )
    if not outcome.done and not outcome.kept:
        raise UserError(f"none of {len(outcome.skipped)} {what} could be read")
