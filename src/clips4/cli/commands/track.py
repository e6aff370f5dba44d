"""`clips4 track`: masks propagated through video."""

from pathlib import Path
from typing import Annotated

import typer

from clips4.cli import command
from clips4.cli.arguments import AsJson, Device, Record, Run, check_run_first, option
from clips4.cli.console import print_summary, progress_bars, stop
from clips4.cli.shell import current_values


def track(
    run: Run,
    frames: Annotated[Path, typer.Argument(help="A folder of frames, or a video file.")],
    mask: Annotated[
        Path,
        typer.Option("--mask", help="PNG of the first frame's objects (1, 2, ...), or a folder of masks: FRAME.png."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Output folder: FRAME.png, overlay.mp4.")],
    features: Annotated[
        str,
        option(
            "--features",
            "student, backbone or color; student:z+c3+c4 and the like: see docs/reference/protocols.md.",
            command.one_of(("student", "backbone", "color")),
        ),
    ] = "student:c3+c4",
    side: Annotated[int, typer.Option("--side", min=32, help="Long side at which frames are encoded.")] = 854,
    radius: Annotated[
        int,
        typer.Option("--radius", min=0, help="How far labels move, in positions of the feature map."),
    ] = 12,
    before: Annotated[
        int, typer.Option("--before", min=0, help="Earlier frames to compare with, besides the first.")
    ] = 7,
    video: Annotated[bool, typer.Option("--video/--no-video", help="Write overlay.mp4.")] = True,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=0.1, help="Frames per second of overlay.mp4; default: the video's, or 24."),
    ] = None,
    as_json: AsJson = False,
    record_file: Record = None,
    device: Device = "auto",
) -> None:
    """Follow the objects of a first mask through the frames, by similarity of the student's features."""
    from dataclasses import asdict

    from clips4.evaluation.record import write_json
    from clips4.inference.encoding.features import load_features
    from clips4.inference.jobs.track import track_files
    from clips4.inference.video.label_propagation import Recipe
    from clips4.utils.atomic_io import lock_folder
    from clips4.utils.text import plural
    from clips4.utils.video import open_frames, require_av

    check_run_first([run, frames], "clips4 track")
    if video:
        require_av()
    features = ",".join(current_values(features))
    recipe = Recipe(radius=radius, before=before)
    source = open_frames(frames, rate)
    with progress_bars() as progress, lock_folder(out):
        tracked = track_files(source, mask, out, load_features(features, run, side, device), recipe, video, progress)
    record = {
        "frames_of": str(frames),
        "mask": str(mask),
        "features": features,
        "long_side": side,
        **asdict(recipe),
        "objects": tracked.objects,
        "interrupted": tracked.interrupted,
        "frames": tracked.frames,
    }
    if record_file:
        write_json(record_file, record)
    done = f"{plural(len(tracked.objects), 'object')} in {plural(len(tracked.frames), 'frame')}"
    if tracked.interrupted:
        stop(f"Stopped: {done}, in {out}.")
    print_summary(f"Tracked {done} into {out}.", record, as_json)
