"""Student against teacher on coco128: train without labels on its 128 photographs, score on the 100 labeled ones.

    python benchmarks/coco128.py --data ../shared/data/coco128 --out runs/coco128

Prints the table of docs/results.md and writes it with all settings to OUT/scores.json. A finished run in OUT is scored
as it is; an unfinished one is resumed. Another teacher: ``--set teacher.name=...``; MaskCLIP+ beside CLIP-S4:
``--set objective.mode=maskclip-plus``. The teacher's rows may be refined (``--key-smoothing`` and so on; CLIP only, but
for ``--pamr``).
"""

import argparse
import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from torch import Tensor

from clips4.config import load_config
from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import load_classes
from clips4.data.image_folder import find_images
from clips4.evaluation.metrics.confusion import Scores
from clips4.evaluation.open_vocabulary import score_language
from clips4.evaluation.protocols import V1, class_file_hash
from clips4.inference.classifier import Query
from clips4.inference.encoding.tta import InferenceOptions
from clips4.inference.refine.maskclip import Refinement
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import checkpoint_folders, load_checkpoint
from clips4.training.loop import train
from clips4.utils.extras import versions
from clips4.utils.progress import ProgressBars

INFERENCE = {"": None, ", at three sizes and mirrored": InferenceOptions(scales=(0.7, 1, 1.4), flip=True)}


def main() -> None:
    """Train, score, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/coco128"))
    parser.add_argument("--out", type=Path, default=Path("runs/coco128"))
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--key-smoothing", action="store_true")
    parser.add_argument("--prompt-denoising", action="store_true")
    parser.add_argument("--pamr", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()

    config, classes = load_config(arguments.preset, arguments.set), load_classes("coco128")
    dataset = semantic_spec("coco128").load(arguments.data)
    started = time.perf_counter()
    with ProgressBars(Console(stderr=True)) as bars:
        photographs = find_images(arguments.data / "images")
        train(photographs, classes, config, arguments.out, bool(checkpoint_folders(arguments.out)), progress=bars)
        minutes = (time.perf_counter() - started) / 60
        refinement = Refinement(arguments.prompt_denoising, arguments.key_smoothing, arguments.pamr)
        prototypes = load_checkpoint(arguments.out).prototypes
        of_teacher, of_student = (
            Query.per_class(rows, len(classes)) for rows in (prototypes.known, prototypes.query_known)
        )
        for_teacher: dict[str, Tensor | Query] = {"text": prototypes.text, "prototypes": of_teacher}
        for_student: dict[str, Tensor | Query] = {
            **for_teacher,
            "prototypes": of_student,
            "the teacher's prototypes": of_teacher,
        }
        rows: dict[str, Scores] = {}
        for suffix, options in INFERENCE.items():
            teacher = Segmenter.from_teacher(
                config.teacher.name, config, refinement=refinement, options=options, space=prototypes.space
            )
            student = Segmenter.load(arguments.out, options=options)
            for who, segmenter, vectors in (("teacher", teacher, for_teacher), ("student", student, for_student)):
                found = score_language(segmenter, dataset, vectors, bars)
                rows |= {f"{who} by {how}{suffix}": scores for how, scores in found.items()}
    print(table(rows))
    print(
        f"\n{minutes:.1f} minutes of encoding and training on {os.cpu_count()} cores ({platform.processor() or 'CPU'})"
    )
    report = {
        "protocol": V1,
        "classes": class_file_hash(classes),
        "minutes": round(minutes, 2),
        "config": config.model_dump(mode="json"),
        "teacher_refinement": asdict(refinement),
        "versions": versions(),
        "rows": {name: describe(scores, classes.names) for name, scores in rows.items()},
    }
    (arguments.out / "scores.json").write_text(json.dumps(report, indent=2) + "\n")


def table(rows: dict[str, Scores]) -> str:
    """The scores as a Markdown table, in percent."""
    lines = [
        "| | mIoU, classes present | mIoU, classes present or predicted | pixel accuracy |",
        "|---|---:|---:|---:|",
    ]
    for name, scores in rows.items():
        figures = (scores.miou_present, scores.miou, scores.pixel_accuracy)
        lines.append(f"| {name} | " + " | ".join(f"{100 * value:.2f}" for value in figures) + " |")
    return "\n".join(lines)


def describe(scores: Scores, names: tuple[str, ...]) -> dict[str, object]:
    """JSON-ready scores; the IoU of classes that do not occur is left out."""
    return {
        "miou_present": scores.miou_present,
        "miou": scores.miou,
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_accuracy": scores.mean_accuracy,
        "pixels": scores.pixels,
        "classes_present": int(scores.present.sum()),
        "iou": {name: float(iou) for name, iou, there in zip(names, scores.iou, scores.present, strict=True) if there},
    }


if __name__ == "__main__":
    main()
