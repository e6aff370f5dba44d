"""Student against teacher on ten sequences of DAVIS-2016 by the names of what moves; no label is seen in training.

    python benchmarks/davis_names.py --data ../shared/data/davis16 --out runs/davis_names --every 3

Trains on the frames (every third here), queries each with the 17 names of assets/classes/davis16-names.txt, takes as
the object what has one of its names (assets/labels/davis16-objects.txt). IoU is averaged over frames, then over
sequences. "Unknown allowed": the run's unknown prototypes compete, too, and a pixel nearest to one of them is no
object. Prints a table and writes OUT/scores.json.

With ``--images DIR ...`` it trains on these images instead (inductive), ``--count`` of them, evenly:

    python benchmarks/davis_names.py --data ../shared/data/davis16 --out runs/davis_unseen --preset auto \
        --images ../shared/data/photos --count 200 --every 6 --once
"""

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from named_objects import FramePredictions, object_names, score_named_objects, score_predictions
from numpy.typing import NDArray
from torch import Tensor

from clips4.cli.console import progress_bars
from clips4.data.benchmarks.davis import load_davis
from clips4.data.class_names import load_classes
from clips4.data.image_folder import find_images
from clips4.data.image_source import evenly_spaced
from clips4.evaluation.protocols import V1, class_file_hash
from clips4.inference.encoding.tta import InferenceOptions
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import checkpoint_folders, load_checkpoint
from clips4.training.loop import train
from clips4.training.recipe import choose_config
from clips4.utils.images import load_rgb

INFERENCE = {"": None, ", at three sizes and mirrored": InferenceOptions(scales=(0.7, 1, 1.4), flip=True)}


def rows_of(how: str, known: Tensor, unknown: Tensor) -> dict[str, Tensor]:
    """The class vectors of a network, without and with unknown prototypes, by row."""
    return {how: known, f"{how}, unknown allowed": torch.cat([known, unknown])}


def predictions(student: Segmenter) -> FramePredictions:
    """What the student predicts by text and by prototypes, without and with unknown, by row."""
    queries = {how: student.query(vectors=how) for how in ("text", "prototypes")}

    def predict(frame: Path, size: tuple[int, ...]) -> Iterable[tuple[str, NDArray[np.integer]]]:
        encoded = student.encode_image(load_rgb(frame))
        for how, query in queries.items():
            yield how, student.predict(encoded, query, unknown=False).labels
            yield f"{how}, unknown allowed", student.predict(encoded, query).labels

    return predict


def main() -> None:
    """Train, score, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/davis16"))
    parser.add_argument("--out", type=Path, default=Path("runs/davis_names"))
    parser.add_argument("--every", type=int, default=3, help="frames are taken at this step, for training and scoring")
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="train on these instead of the frames")
    parser.add_argument("--count", type=int, default=10**9, help="how many of --images, evenly; all by default")
    parser.add_argument("--preset", default="few-names")
    parser.add_argument("--once", action="store_true", help="skip the prediction at three scales")
    parser.add_argument("--student-only", action="store_true", help="skip the teacher, which is slow")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()

    classes = load_classes("davis16-names")
    videos, objects = load_davis(arguments.data), object_names(classes)
    frames = [frame for video in videos for frame in video.frames[:: arguments.every]]
    images = evenly_spaced(find_images(arguments.images), arguments.count) if arguments.images else frames
    config, _ = choose_config(arguments.preset, images, arguments.set, None)
    started = time.perf_counter()
    with progress_bars() as progress:
        train(images, classes, config, arguments.out, bool(checkpoint_folders(arguments.out)), progress=progress)
        minutes = (time.perf_counter() - started) / 60
        prototypes = load_checkpoint(arguments.out).prototypes
        by_text = rows_of("text", prototypes.text, prototypes.unknown)
        for_teacher = by_text | rows_of("prototypes", prototypes.known, prototypes.unknown)
        rows: dict[str, dict[str, float]] = {}
        for suffix, options in ({"": None} if arguments.once else INFERENCE).items():
            if not arguments.student_only:
                name, space = config.teacher.name, prototypes.space
                teacher = Segmenter.from_teacher(name, config, options=options, space=space)
                ious = score_named_objects(teacher, videos, objects, for_teacher, arguments.every, progress)
                rows |= {f"teacher by {how}{suffix}": found for how, found in ious.items()}
            student = Segmenter.load(arguments.out, options=options)
            ious = score_predictions(predictions(student), videos, objects, arguments.every, progress)
            rows |= {f"student by {how}{suffix}": found for how, found in ious.items()}
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
