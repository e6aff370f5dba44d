"""Student against teacher on ten sequences of DAVIS-2016 by the names of what moves; no label is seen in training.

    python benchmarks/davis_names.py --data ../shared/data/davis16 --out runs/davis_names --every 3

Trains on the frames (every third here), queries each with the 17 names of assets/classes/davis16-names.txt, takes as
the object what has one of its names (assets/labels/davis16-objects.txt). IoU is averaged over frames, then over
sequences. "Unknown allowed": the run's unknown prototypes compete, too, and a pixel nearest to one of them is no
object. Prints a table and writes OUT/scores.json.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clips4.cli.console import progress_bars
from clips4.config import load_config
from clips4.data.benchmarks.davis import load_davis
from clips4.data.class_names import load_classes
from clips4.evaluation.named_objects import object_names, score_named_objects
from clips4.evaluation.protocols import V1, class_file_hash
from clips4.inference.segmenter import Segmenter
from clips4.inference.tta import InferenceOptions
from clips4.models.checkpoint import checkpoint_folders, load_checkpoint
from clips4.training.loop import train

INFERENCE = {"": None, ", at three sizes and mirrored": InferenceOptions(scales=(0.7, 1, 1.4), flip=True)}


def rows_of(how: str, known: Tensor, unknown: Tensor) -> dict[str, Tensor]:
    """The class vectors of a network, without and with unknown prototypes, by row."""
    return {how: known, f"{how}, unknown allowed": torch.cat([known, unknown])}


def main() -> None:
    """Train, score, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/davis16"))
    parser.add_argument("--out", type=Path, default=Path("runs/davis_names"))
    parser.add_argument("--every", type=int, default=3, help="frames are taken at this step, for training and scoring")
    parser.add_argument("--preset", default="few-names")
    parser.add_argument("--once", action="store_true", help="skip the prediction at three scales")
    parser.add_argument("--student-only", action="store_true", help="skip the teacher, which is slow")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()

    config, classes = load_config(arguments.preset, arguments.set), load_classes("davis16-names")
    videos, objects = load_davis(arguments.data), object_names(classes)
    started = time.perf_counter()
    with progress_bars() as progress:
        frames = [frame for video in videos for frame in video.frames[:: arguments.every]]
        train(frames, classes, config, arguments.out, bool(checkpoint_folders(arguments.out)), progress=progress)
        minutes = (time.perf_counter() - started) / 60
        prototypes = load_checkpoint(arguments.out).prototypes
        by_text = rows_of("text", prototypes.text, prototypes.unknown)
        for_teacher = by_text | rows_of("prototypes", prototypes.known, prototypes.unknown)
        for_student = by_text | rows_of("prototypes", prototypes.query_known, prototypes.query_unknown)
        rows: dict[str, dict[str, float]] = {}
        for suffix, options in ({"": None} if arguments.once else INFERENCE).items():
            networks = []
            if not arguments.student_only:
                teacher = Segmenter.from_teacher(config.teacher.name, config, options=options)
                networks.append(("teacher", teacher, for_teacher))
            networks.append(("student", Segmenter.load(arguments.out, options=options), for_student))
            for who, segmenter, vectors in networks:
                ious = score_named_objects(segmenter, videos, objects, vectors, arguments.every, progress)
                rows |= {f"{who} by {how}{suffix}": found for how, found in ious.items()}
    names = [video.name for video in videos]
    print("| | mean | " + " | ".join(names) + " |\n|---|" + "---:|" * (1 + len(names)))
    for name, found in rows.items():
        values = [float(np.mean(list(found.values()))), *(found[video] for video in names)]
        print(f"| {name} | " + " | ".join(f"{100 * value:.1f}" for value in values) + " |")
    print(f"\n{minutes:.1f} minutes of encoding and training")
    report = {
        "protocol": V1,
        "classes": class_file_hash(classes),
        "config": config.model_dump(mode="json"),
        "every": arguments.every,
        "rows": rows,
    }
    (arguments.out / "scores.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
