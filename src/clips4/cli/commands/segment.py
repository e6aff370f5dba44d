"""`clips4 segment`: images to label maps, overlays and other formats."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clips4.cli.arguments import expand_paths
from clips4.cli.console import outcome_record, print_note, print_summary, progress_bars
from clips4.errors import UserError

if TYPE_CHECKING:
    from clips4.data.image_folder import JobOutcome


def segment(
    run_and_images: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN IMAGES...",
            help="The run, then images, folders, or video files; - for a list on standard input.",
            callback=expand_paths,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Output folder.")],
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Class names: a file, a shipped list or a,b,c; by default those of the run."),
    ] = None,
    save: Annotated[
        str, typer.Option("--save", help="Some of png,overlay,json,coco,panoptic,yolo,npz,gallery.")
    ] = "png,overlay,json",
    vectors: Annotated[str, typer.Option("--vectors", help="Class vectors: prototypes or text.")] = "prototypes",
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
        str | None, typer.Option("--refine", help="Refine to the image's edges: pamr, or regions (superpixels).")
    ] = None,
    steady: Annotated[
        float,
        typer.Option("--steady", help="Videos: weight of earlier frames in a frame's embeddings; 0 is frame by frame."),
    ] = 0.8,
    force: Annotated[bool, typer.Option("--force", help="Redo what was done with the same settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    teacher_only: Annotated[
        str | None,
        typer.Option("--teacher-only", help="Use this teacher without a run; all arguments are images."),
    ] = None,
    dense_attention: Annotated[
        str | None,
        typer.Option("--dense-attention", help="Teacher only: maskclip, sclip, clearclip, naclip or vanilla."),
    ] = None,
    templates: Annotated[
        str | None, typer.Option("--templates", help="Teacher only: simple, imagenet-80 or maskclip-85.")
    ] = None,
    key_smoothing: Annotated[
        bool,
        typer.Option("--key-smoothing", help="Teacher only: average over positions with similar keys (MaskCLIP)."),
    ] = False,
    prompt_denoising: Annotated[
        bool,
        typer.Option("--prompt-denoising", help="Teacher only: drop classes confident nowhere (MaskCLIP)."),
    ] = False,
    use: Annotated[
        str, typer.Option("--use", help="student, teacher, or auto: the teacher where RUN/quality.json says so.")
    ] = "auto",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Predict the class of every pixel: a label PNG, an overlay and JSON per image; COCO, YOLO, a gallery."""
    from clips4.inference.jobs.load import TeacherOptions, load_segmenter, parse_inference_options
    from clips4.inference.jobs.segment import segment_files
    from clips4.inference.video.temporal_smoothing import Steadiness
    from clips4.utils.atomic_io import lock_folder

    teacher = TeacherOptions(dense_attention, templates, key_smoothing, prompt_denoising)
    options = parse_inference_options(scales, flip, window, overlap, refine)
    with progress_bars() as progress, lock_folder(out):
        loaded = load_segmenter(run_and_images, teacher_only, device, teacher, options, use)
        outcome = segment_files(
            loaded, out, classes, save, vectors, unknown, background, Steadiness(steady), force, progress
        )
    report(outcome, "Segmented", out, as_json)


def report(outcome: "JobOutcome", verb: str, out: Path, as_json: bool = False) -> None:
    """Print the outcome of a job.

    Raises:
        UserError: no input could be read.
        typer.Exit: interrupted.
    """
    from clips4.utils.video import is_video

    for _, reason in outcome.skipped:
        print_note(f"skipped: {reason}")
    if outcome.gone:
        print_note(
            f"gone or edited since they were done: {outcome.gone}; their outputs remain in {out}, "
            "and the files of the whole folder leave them out"
        )
    if outcome.interrupted:
        done = len(outcome.done) + len(outcome.kept)
        print_note(f"Stopped after {done} images; run the same command to resume.")
        raise typer.Exit(130)
    kinds = {is_video(path) for path in (*outcome.done, *outcome.kept, *(path for path, _ in outcome.skipped))}
    what = "files" if len(kinds) > 1 else "videos" if True in kinds else "images"
    kept = f", {len(outcome.kept)} done before" if outcome.kept else ""
    text = f"{verb} {len(outcome.done)} {what} ({len(outcome.skipped)} skipped{kept}) into {out}."
    record = {**outcome_record(outcome), "done_before": [str(path) for path in outcome.kept], "out": out}
    print_summary(text, record, as_json)
    if not outcome.done and not outcome.kept:
        raise UserError(f"none of {len(outcome.skipped)} {what} could be read")
