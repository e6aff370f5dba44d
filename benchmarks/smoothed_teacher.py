"""The teacher smoothed without any training: a second baseline for students.

    python benchmarks/smoothed_teacher.py --data ../shared/data/coco128 --run runs/coco128
    python benchmarks/smoothed_teacher.py --dataset davis16 --data ../shared/data/davis16 --run runs/davis_names

Rows, each by text and by the run's prototypes in the teacher's space: as it is; its map averaged over its own segments
(k-means cut by the run's regions, as in training); its scores averaged over the run's regions at the image's
full size, so that outlines are those of the regions. Scored as benchmarks/coco128.py does, or as
benchmarks/davis_names.py does with unknown allowed.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from named_objects import object_names, score_predictions
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from clips4.config import Config
from clips4.data.benchmarks.davis import load_davis
from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import load_classes
from clips4.evaluation.metrics.confusion import Tally, confusion_matrix, scores
from clips4.inference.refine.superpixels import region_scores
from clips4.inference.upsample import nearest_class
from clips4.method.prototype_search import teacher_segments
from clips4.models.checkpoint import load_checkpoint
from clips4.models.teachers.base import load_teacher
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.outputs.tables import markdown
from clips4.regions.cache import RegionCache
from clips4.utils.images import RGB, load_rgb, reduce_to
from clips4.utils.progress import ProgressBars


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("coco128", "davis16"), default="coco128")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/coco128"))
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--every", type=int, default=3, help="davis16: frames are taken at this step")
    arguments = parser.parse_args()
    if arguments.dataset == "davis16":
        score_davis(arguments.data, arguments.run, arguments.every)
    else:
        score_coco128(arguments.data, arguments.run)


def score_coco128(data: Path, run: Path) -> None:
    """The rows of coco128: mIoU and pixel accuracy."""
    checkpoint, classes = load_checkpoint(run), load_classes("coco128")
    vectors = {"text": checkpoint.prototypes.text, "prototypes": checkpoint.prototypes.known}
    regions = RegionCache(checkpoint.config.regions)
    maps = TeacherMaps(load_teacher(checkpoint.config.teacher))
    dataset = semantic_spec("coco128").load(data)
    tallies: dict[str, Tally] = {}
    with ProgressBars(Console(stderr=True)) as bars:
        bars.stage("scoring", len(dataset))
        for path, image, truth in dataset:
            for row, labels in predictions(image, path, truth.shape, vectors, checkpoint.config, regions, maps):
                counts = confusion_matrix(truth, labels, len(classes))
                tallies.setdefault(row, Tally(len(classes))).add(counts)
            bars.advance({})
    found = {row: scores(tally.total) for row, tally in sorted(tallies.items(), reverse=True)}
    rows = {row: {"miou": each.miou_present, "accuracy": each.pixel_accuracy} for row, each in found.items()}
    print(markdown(rows, {"miou": "mIoU, classes present", "accuracy": "pixel accuracy"}))


def score_davis(data: Path, run: Path, every: int) -> None:
    """The rows of DAVIS: IoU of the named object, mean over frames, then over sequences; unknown allowed."""
    checkpoint, objects = load_checkpoint(run), object_names(load_classes("davis16-names"))
    prototypes = checkpoint.prototypes
    known = {"text": prototypes.text, "prototypes": prototypes.known}
    vectors = {how: torch.cat([each, prototypes.unknown]) for how, each in known.items()}
    regions = RegionCache(checkpoint.config.regions)
    maps = TeacherMaps(load_teacher(checkpoint.config.teacher))

    def of_frame(frame: Path, size: tuple[int, ...]) -> Iterator[tuple[str, NDArray[np.integer]]]:
        return predictions(load_rgb(frame), frame, size, vectors, checkpoint.config, regions, maps)

    with ProgressBars(Console(stderr=True)) as bars:
        found = score_predictions(of_frame, load_davis(data), objects, every, bars)
    rows = {row: {"iou": float(np.mean(list(found[row].values())))} for row in sorted(found, reverse=True)}
    print(markdown(rows, {"iou": "mean IoU"}))


def predictions(
    image: RGB,
    path: Path,
    size: tuple[int, ...],
    vectors: dict[str, Tensor],
    config: Config,
    regions: RegionCache,
    maps: TeacherMaps,
) -> Iterator[tuple[str, NDArray[np.integer]]]:
    """The labels (H, W) of one image by every row."""
    shown = reduce_to(image, config.data.long_side)
    pixel_map, at_image = maps(shown).float(), torch.from_numpy(regions(shown, path))
    segments, labels = teacher_segments(pixel_map, at_image, config.segments)
    by_segment = segments[labels].permute(2, 0, 1)
    for how, matrix in vectors.items():
        yield f"teacher by {how}", nearest_class(pixel_map, matrix, size)[0].numpy()
        yield f"teacher by {how}, over its segments", nearest_class(by_segment, matrix, size)[0].numpy()
        yield f"teacher by {how}, over regions", over_regions(pixel_map, matrix, at_image, size)


def over_regions(pixel_map: Tensor, matrix: Tensor, regions: Tensor, size: tuple[int, ...]) -> NDArray[np.integer]:
    """Scores upsampled to the regions' size, averaged in each region, argmax; brought to the image's size."""
    height, width = regions.shape
    best = region_scores(torch.einsum("dhw,ld->lhw", pixel_map, matrix), regions.long()).argmax(1)[regions.long()]
    y, x = (np.arange(to) * of // to for to, of in ((size[0], height), (size[1], width)))
    return best.numpy()[y][:, x]


if __name__ == "__main__":
    main()
