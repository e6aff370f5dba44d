"""Training on coco128 with each kind of region, all else equal.

    python benchmarks/region_kinds.py --data ../shared/data/coco128 --out runs/region_kinds

Trains one student per kind, scores it on the 100 labeled photographs as benchmarks/coco128.py does, and prints the
table of docs/results.md, which is also written with all settings to OUT/scores.json. Kinds that are in that file are
not trained again, so that the work can be divided: ``--kinds slic``, later ``--kinds hed-ucm``.
"""

import argparse
import json
import time
from pathlib import Path

from rich.console import Console

from clips4.config import load_config
from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import load_classes
from clips4.data.image_folder import find_images
from clips4.evaluation.open_vocabulary import score_language
from clips4.evaluation.protocols import V1
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import checkpoint_folders
from clips4.training.loop import train
from clips4.utils.extras import versions
from clips4.utils.progress import ProgressBars

KINDS = {
    "slic": ["regions.method=slic"],
    "felzenszwalb": ["regions.method=felzenszwalb"],
    "gradient-ucm": ["regions.method=gradient-ucm"],
    "hed-ucm": ["regions.method=hed-ucm"],
    "hed-ucm, contours above .5 only": ["regions.method=hed-ucm", "regions.threshold=0.5"],
}


def main() -> None:
    """Train and score what is missing, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/coco128"))
    parser.add_argument("--out", type=Path, default=Path("runs/region_kinds"))
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()

    file = arguments.out / "scores.json"
    report = json.loads(file.read_text()) if file.is_file() else {"protocol": V1, "set": arguments.set, "rows": {}}
    if report["set"] != arguments.set:
        parser.error(f"{file} was begun with --set {report['set']}; all else has to be equal")
    for kind in arguments.kinds:
        if kind not in report["rows"]:
            report["rows"][kind] = measure(kind, arguments.data, arguments.out, arguments.set)
            file.write_text(json.dumps(report | {"versions": versions()}, indent=2) + "\n")
    print(table(report["rows"]))


def measure(kind: str, data: Path, out: Path, overrides: list[str]) -> dict[str, object]:
    """Train and score a student on one kind of regions."""
    config, classes = load_config("cpu", [*overrides, *KINDS[kind]]), load_classes("coco128")
    run = out / "".join(letter if letter.isalnum() else "-" for letter in kind)
    started = time.perf_counter()
    with ProgressBars(Console(stderr=True)) as bars:
        train(find_images(data / "images"), classes, config, run, bool(checkpoint_folders(run)), progress=bars)
        minutes = (time.perf_counter() - started) / 60
        student = Segmenter.load(run)
        assert student.prototypes is not None
        vectors = {"text": student.prototypes.text, "prototypes": student.prototypes.query_known}
        scores = score_language(student, semantic_spec("coco128").load(data), vectors, bars)
    figures = {how: {"miou_present": s.miou_present, "pixel_accuracy": s.pixel_accuracy} for how, s in scores.items()}
    return {"minutes": round(minutes, 2), "config": config.model_dump(mode="json"), **figures}


def table(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """The scores as a Markdown table, in percent."""
    lines = [
        "| regions | mIoU by text | pixel accuracy by text | mIoU by prototypes | pixel accuracy by prototypes |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind in (kind for kind in KINDS if kind in rows):
        figures = [
            rows[kind][how][what] for how in ("text", "prototypes") for what in ("miou_present", "pixel_accuracy")
        ]
        lines.append(f"| {kind} | " + " | ".join(f"{100 * value:.2f}" for value in figures) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
