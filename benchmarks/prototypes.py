"""Two readings of a class's prototype, by the teacher alone on coco128: the mean of m segments, or the nearest of m.

    python benchmarks/prototypes.py --data ../shared/data/coco128 --preset cpu --m 8 24

Prototypes are found in the 128 photographs as training finds them, and scored on the 100 labeled ones by clips4-v1:
mIoU over the classes present / pixel accuracy. One pass finds all of them, one scores all.
"""

import argparse
import time
from pathlib import Path

import torch
from rich.console import Console

from clips4.config import PerClass, load_config
from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import load_classes
from clips4.data.image_folder import find_images
from clips4.data.image_source import open_source
from clips4.evaluation.open_vocabulary import score_language
from clips4.inference.classifier import Query
from clips4.inference.segmenter import Segmenter
from clips4.method.prototype_search import PrototypeSearch, teacher_segments
from clips4.models.calibrated_teacher import calibrated
from clips4.models.teachers.base import load_teacher
from clips4.models.teachers.text.prompts import load_templates
from clips4.models.teachers.text.text_cache import cached_class_vectors
from clips4.regions.cache import RegionCache
from clips4.training.space import estimate_space
from clips4.training.teacher_cache import plan_teacher_maps
from clips4.utils.images import load_rgb, reduce_to
from clips4.utils.progress import ProgressBars, counted

PER_CLASS: tuple[PerClass, ...] = ("mean", "nearest")


def main() -> None:
    """Find, score and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/coco128"))
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--m", nargs="+", type=int, default=[8, 24])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()

    started, cpu = time.process_time(), torch.device("cpu")
    config, classes = load_config(arguments.preset, arguments.set), load_classes("coco128")
    paths = find_images(arguments.data / "images")
    source, side = open_source(paths), config.data.long_side
    with ProgressBars(Console(stderr=True)) as bars:
        raw, templates = load_teacher(config.teacher), load_templates(config.teacher.templates)
        maps = plan_teacher_maps(raw, source, cached_class_vectors(raw, classes, templates), config, cpu, bars)
        space = None
        if config.teacher.calibrate:
            share = config.extensions.reference_share
            space = estimate_space(raw, config.teacher, source, maps, side, share, cpu, bars)
        text, maps = cached_class_vectors(calibrated(raw, space), classes, templates), maps.in_space(space)
        regions, exclusive = RegionCache(config.regions), config.extensions.exclusive_prototypes
        searches = {
            (m, per_class): PrototypeSearch(
                text, m, config.prototypes.sample, config.train.seed, exclusive, per_class=per_class
            )
            for m in arguments.m
            for per_class in PER_CLASS
        }
        for number, path in enumerate(counted(bars, "finding prototypes", paths)):
            image = reduce_to(load_rgb(path), side)
            segments, _ = teacher_segments(maps(image), torch.from_numpy(regions(image, path)), config.segments)
            for search in searches.values():
                search.add(number, segments)
        queries = {
            f"{m} | {per_class}": Query.per_class(search.result().known, len(classes))
            for (m, per_class), search in searches.items()
        }
        teacher = Segmenter.from_teacher(config.teacher.name, config, "cpu", space=space)
        scored = score_language(teacher, semantic_spec("coco128").load(arguments.data), queries, bars)
    print(f"Preset {arguments.preset}\n\n| m | prototypes | mIoU / pixel accuracy |\n|---:|---|---:|")
    for name, scores in scored.items():
        print(f"| {name} | {100 * scores.miou_present:.2f} / {100 * scores.pixel_accuracy:.2f} |")
    print(f"\n{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    main()
