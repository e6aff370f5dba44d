"""Tracking on DAVIS-2016: the first mask repeated, raw color, the ImageNet backbone, the student.

    python benchmarks/tracking.py --data ../shared/data/davis16 --run runs/coco128 --out runs/davis16-scores.json

Every row encodes frames at the same size and stride 8 and propagates by the same recipe. Prints J, F and the time.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from clips4.data.benchmarks.davis import load_davis
from clips4.evaluation.record import describe_tracking, provenance, write_json
from clips4.evaluation.vos import Tracker, by_features, first_mask_tracker, score_videos
from clips4.inference.encoding.features import load_features
from clips4.inference.video.label_propagation import Recipe
from clips4.outputs.tables import percent
from clips4.utils.progress import ProgressBars


def main() -> None:
    """Track, score, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/davis16"))
    parser.add_argument("--run", type=Path)
    parser.add_argument("--rows", default="still,color,backbone,backbone-mid,student")
    parser.add_argument("--side", type=int, default=854, help="long side of frames; 854 is a short side of 480")
    parser.add_argument("--radius", type=int, default=12)
    parser.add_argument("--sequences", help="only these, separated by commas")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    videos = load_davis(arguments.data, "davis16")
    if arguments.sequences:
        videos = [video for video in videos if video.name in arguments.sequences.split(",")]
    recipe = Recipe(radius=arguments.radius)
    frames = sum(len(video.frames) for video in videos)
    print(
        "| | J&F | J mean | J recall | J decay | F mean | F recall | F decay | s / frame |\n|---|" + "---:|" * 8,
        flush=True,
    )
    rows: dict[str, object] = {}
    with ProgressBars(Console(stderr=True)) as bars:
        for kind in arguments.rows.split(","):
            started = time.perf_counter()
            tracker: Tracker = first_mask_tracker
            if kind != "still":
                tracker = by_features(load_features(kind, arguments.run, arguments.side, "cpu"), recipe)
            scores = score_videos(tracker, videos, "davis16", bars)
            seconds = (time.perf_counter() - started) / frames
            figures = " | ".join(map(percent, (scores.j_and_f, *scores.j, *scores.f)))
            print(f"| {kind} | {figures} | {seconds:.2f} |", flush=True)
            rows[kind] = {**describe_tracking(scores), "seconds_per_frame": seconds}
    if arguments.out:
        settings = {"side": arguments.side, "recipe": asdict(recipe), "run": str(arguments.run), "frames": frames}
        write_json(arguments.out, {**settings, **provenance(), "rows": rows})


if __name__ == "__main__":
    main()
