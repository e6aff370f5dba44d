"""Student against teacher on images that training never saw: train on unlabeled images, score on coco128's 100 labeled.

    python benchmarks/inductive.py --data ../shared/data --out runs/inductive --preset recommended --seeds 0 1 2

Training images: ``photos``, BSDS500 (train and val), coco128's 28 images without labels, every 4th image of CamVid's
train split and every 12th frame of DAVIS-2016; ``--images`` takes fewer of them, evenly. No label enters training.

Prints mIoU over the classes present / pixel accuracy by protocol clips4-v1 for all 100 images and for those of even and
of odd number, and writes OUT/scores.json. The teacher is encoded at its own best long side, also with the student's
larger size of wide images, and at 512; with the affinity of the residual student, and averaged over regions. A
finished run in OUT/seed-N is scored as it is, an unfinished one is continued. Other settings: ``--set key=value``.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from smoothed_teacher import over_regions
from torch import Tensor

from clips4.config import Config, load_config
from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import load_classes
from clips4.data.image_folder import find_images
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.errors import UserError
from clips4.evaluation.metrics.confusion import Tally, confusion_matrix, scores
from clips4.evaluation.protocols import V1, class_file_hash
from clips4.inference.segmenter import Segmenter
from clips4.inference.upsample import nearest_class
from clips4.models.checkpoint import Prototypes, checkpoint_folders, load_checkpoint
from clips4.models.residual_student import build_residual_student
from clips4.models.sliding_window import InferenceSize
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.regions.cache import RegionCache
from clips4.training.loop import train
from clips4.utils.devices import pick_device
from clips4.utils.extras import versions
from clips4.utils.images import reduce_to
from clips4.utils.progress import ProgressBars, ProgressReporter

HALVES = ("all", "even", "odd")
Labels = Iterator[tuple[str, NDArray[np.integer]]]


def training_images(data: Path) -> list[Path]:
    """The images described above, none of them scored."""
    scored = {path.stem for path in (data / "coco128/masks").glob("*.png")}
    found = find_images(data / "photos") + sorted((data / "bsds500/images").rglob("*.jpg"))
    found += [path for path in find_images(data / "coco128/images") if path.stem not in scored]
    found += find_images(data / "camvid/train")[::4]
    for sequence in sorted((data / "davis16/JPEGImages/480p").iterdir()):
        found += find_images(sequence)[::12]
    return found


def evenly(paths: list[Path], count: int) -> list[Path]:
    """``count`` of the paths, evenly spaced; all where there are no more."""
    return paths if count >= len(paths) else [paths[i * len(paths) // count] for i in range(count)]


class Rows:
    """Confusion matrices by row, for all images and for each half."""

    def __init__(self, classes: int):
        self._classes, self._tallies = classes, dict[str, dict[str, Tally]]()

    def add(self, number: int, truth: NDArray[np.integer], labels: Labels) -> None:
        """Count the labels of one image by every row."""
        for row, each in labels:
            counts = confusion_matrix(truth, each.astype(np.uint8), self._classes)
            tallies = self._tallies.setdefault(row, {half: Tally(self._classes) for half in HALVES})
            for half in ("all", HALVES[1 + number % 2]):
                tallies[half].add(counts)

    def describe(self) -> dict[str, dict[str, dict[str, float]]]:
        """row -> half -> mIoU over the classes present and pixel accuracy."""
        found = {row: {half: scores(t.total) for half, t in tallies.items()} for row, tallies in self._tallies.items()}
        return {
            row: {
                half: {"miou_present": s.miou_present, "pixel_accuracy": s.pixel_accuracy} for half, s in each.items()
            }
            for row, each in found.items()
        }


def score_teacher(
    teacher: Teacher,
    prototypes: Prototypes,
    config: Config,
    dataset: LabeledFolder,
    sides: list[int],
    bars: ProgressBars,
) -> Rows:
    """The teacher as it is at several long sides, with the affinity, and averaged over regions."""
    rows, banks, regions = (
        Rows(len(dataset.classes)),
        _banks(prototypes.text, prototypes.known),
        RegionCache(config.regions),
    )
    sizes = {str(side): InferenceSize(side) for side in sides}
    sizes[f"{sides[0]}, wide ones larger"] = InferenceSize(sides[0], config.data.inference_short_side)
    plain = {
        name: Segmenter(teacher.encode_pixels, config.teacher, size, pick_device("cpu"), teacher=teacher)
        for name, size in sizes.items()
    }
    smooth = {}
    try:
        untrained = build_residual_student(residual(config), teacher).eval()
        smooth = {
            name: Segmenter(untrained, config.teacher, size, pick_device("cpu"), teacher=teacher)
            for name, size in sizes.items()
            if size.long_side == sides[0]
        }
    except UserError:  # a teacher without a trunk
        pass
    bars.stage("scoring the teacher", len(dataset))
    for number, (path, image, truth) in enumerate(dataset):
        shown = reduce_to(image, config.data.long_side)
        at_image = torch.from_numpy(regions(shown, path))

        def labels() -> Labels:
            for name, segmenter in plain.items():
                z = segmenter.embed(image)  # noqa: B023  # used at once
                for how, matrix in banks.items():
                    yield f"teacher @{name} {how}", nearest_class(z, matrix, truth.shape)[0].numpy()  # noqa: B023
                    yield f"teacher @{name} over regions {how}", over_regions(z, matrix, at_image, truth.shape)  # noqa: B023
            for name, segmenter in smooth.items():
                z = segmenter.embed(image)  # noqa: B023
                for how, matrix in banks.items():
                    yield f"teacher @{name} with affinity {how}", nearest_class(z, matrix, truth.shape)[0].numpy()  # noqa: B023

        rows.add(number, truth, labels())
        bars.advance({})
    return rows


def score_student(run: Path, dataset: LabeledFolder, progress: ProgressReporter) -> Rows:
    """The student of a run, at its own inference side."""
    segmenter, rows = Segmenter.load(run, "cpu"), Rows(len(dataset.classes))
    assert segmenter.prototypes is not None
    prototypes = segmenter.prototypes
    banks = {**_banks(prototypes.text, prototypes.query_known), "teacher's prototypes": prototypes.known}
    progress.stage("scoring the student", len(dataset))
    for number, (_, image, truth) in enumerate(dataset):
        z = segmenter.embed(image)
        found = {f"student {how}": nearest_class(z, matrix, truth.shape)[0].numpy() for how, matrix in banks.items()}
        rows.add(number, truth, iter(found.items()))
        progress.advance({})
    return rows


def _banks(text: Tensor, prototypes: Tensor) -> dict[str, Tensor]:
    return {"text": text, "prototypes": prototypes}


def residual(config: Config) -> Config:
    """The same configuration with a residual student."""
    if config.extensions.residual:
        return config
    student = config.student.model_copy(update={"stride": 16})
    extensions = config.extensions.model_copy(update={"residual": True})
    return config.model_copy(update={"student": student, "extensions": extensions})


def main() -> None:
    """Train, score, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/inductive"))
    parser.add_argument("--preset", default="recommended")
    parser.add_argument("--images", type=int, default=10**9, help="number of training images, evenly; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--teacher-sides", type=int, nargs="*", default=[416, 512], help="none: no rows of the teacher")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()

    dataset, classes = semantic_spec("coco128").load(arguments.data / "coco128"), load_classes("coco128")
    paths = evenly(training_images(arguments.data), arguments.images)
    report: dict[str, object] = {"protocol": V1, "classes": class_file_hash(classes), "kind": "inductive"}
    rows: dict[str, dict[str, dict[str, float]]] = {}
    with ProgressBars(Console(stderr=True)) as bars:
        for seed in arguments.seeds:
            config = load_config(arguments.preset, [*arguments.set, f"train.seed={seed}"])
            run, started = arguments.out / f"seed-{seed}", time.perf_counter()
            train(paths, classes, config, run, bool(checkpoint_folders(run)), progress=bars)
            report[f"minutes, seed {seed}"] = round((time.perf_counter() - started) / 60, 2)
            if arguments.teacher_sides and not rows:
                prototypes, teacher = load_checkpoint(run).prototypes, load_teacher(config.teacher)
                rows |= score_teacher(teacher, prototypes, config, dataset, arguments.teacher_sides, bars).describe()
            found = score_student(run, dataset, bars).describe()
            rows |= {f"{row}, seed {seed}": values for row, values in found.items()}
    print(table(rows))
    report |= {"images": len(paths), "config": config.model_dump(mode="json"), "versions": versions(), "rows": rows}
    (arguments.out / "scores.json").write_text(json.dumps(report, indent=2) + "\n")


def table(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """mIoU over the classes present / pixel accuracy in percent, as a Markdown table."""
    lines = ["| | all | even | odd |", "|---|---:|---:|---:|"]
    for row, halves in rows.items():
        cells = [f"{100 * s['miou_present']:.2f} / {100 * s['pixel_accuracy']:.1f}" for s in halves.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
