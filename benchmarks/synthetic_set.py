"""Memory and speed of the evaluation on a synthetic set of full size: 10,000 images, 150 classes, generated on demand.

    python benchmarks/synthetic_set.py --images 10000

Language-driven (150 names; the network sees color alone, so that the evaluation is what is measured) and k-means with
one Hungarian matching (k = 150), each with its confusion matrix, per-class and per-image scores. Memory is resident
memory of the process, at every tenth of a stage.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.data.class_names import ClassList
from clips4.data.segmentation_dataset import LabeledFolder, value_table
from clips4.evaluation.metrics.confusion import SetScores
from clips4.evaluation.open_vocabulary import evaluate_language
from clips4.evaluation.protocols import Protocol
from clips4.evaluation.record import describe_scores, image_records
from clips4.evaluation.unsupervised import clusters
from clips4.inference.classifier import Query
from clips4.inference.segmenter import Segmenter
from clips4.utils.images import RGB
from clips4.utils.progress import NoProgress

CLASSES = 150
COLORS = np.random.default_rng(0).integers(20, 236, (CLASSES, 3)).astype(np.uint8)


def make(index: int, side: int) -> tuple[RGB, NDArray[np.uint8]]:
    """Image and truth number ``index``: twenty rectangles of random classes, each in its color with noise."""
    draw = np.random.default_rng(index)
    truth = np.full((side, side), draw.integers(CLASSES), np.uint8)
    for _ in range(20):
        top, left = draw.integers(0, side - 8, 2)
        height, width = draw.integers(8, side // 2, 2)
        truth[top : top + height, left : left + width] = draw.integers(CLASSES)
    noise = draw.integers(-12, 13, (side, side, 3))
    return np.clip(COLORS[truth] + noise, 0, 255).astype(np.uint8), truth


@dataclass(frozen=True)
class SyntheticSet(LabeledFolder):
    """A LabeledFolder that generates its images."""

    side: int = 128

    def __iter__(self) -> Iterator[tuple[Path, RGB, NDArray[np.uint8]]]:
        for index, path in enumerate(self.images):
            yield path, *make(index, self.side)


class Meter(NoProgress):
    """A progress reporter that notes resident memory at every tenth of a stage."""

    def __init__(self) -> None:
        self._name, self._total, self._done, self._started = "", 1, 0, 0.0
        self._memory: list[int] = []

    def stage(self, name: str, total: int) -> None:
        self._name, self._total, self._done, self._started, self._memory = name, total, 0, time.perf_counter(), []

    def advance(self, values: dict[str, float]) -> None:
        self._done += 1
        if self._done % max(1, self._total // 10) == 0:
            self._memory.append(resident())
        if self._done == self._total:
            seconds = time.perf_counter() - self._started
            listed = ", ".join(map(str, self._memory))
            print(
                f"{self._name}: {self._total / seconds:.1f} a second; resident MB at every tenth: {listed}", flush=True
            )


def resident() -> int:
    """Resident memory of this process in MB; its peak where the system does not report the current one."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize() // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def color(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 3, H / 8, W / 8) unit."""
    return torch.nn.functional.normalize(torch.nn.functional.avg_pool2d(images, 8) - 0.5, dim=1)


def main() -> None:
    """Run both tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=128)
    arguments = parser.parse_args()

    names = tuple(f"class {number}" for number in range(CLASSES))
    classes = ClassList(names, tuple((name,) for name in names))
    paths = tuple(Path(f"{index:05d}.png") for index in range(arguments.images))
    dataset = SyntheticSet(paths, paths, classes, value_table(range(CLASSES)), side=arguments.side)
    vectors = torch.nn.functional.normalize(torch.from_numpy(COLORS / 255 - 0.5).float(), dim=1)
    segmenter = Segmenter(color, TeacherConfig(), arguments.side, torch.device("cpu"))
    protocol = Protocol("clips4-v1", None, None, None, "", "", "mean", None)
    meter = Meter()
    found = evaluate_language(segmenter, dataset, {"color": Query.one_per_class(vectors)}, protocol, meter)["color"]
    report("language-driven", found, names)

    clusters.load_rgb = lambda path: make(int(Path(path).stem), arguments.side)[0]  # type: ignore[attr-defined]
    recipe = clusters.ClusterRecipe(k=CLASSES, restarts=1)
    report("k-means", clusters.score_clusters(segmenter.embed, dataset, recipe, meter), names)


def report(task: str, found: SetScores, names: tuple[str, ...]) -> None:
    """Print the score and the size of its record."""
    record = describe_scores(found.scores, names), image_records(found.names, found.images)
    print(f"{task}: mIoU {100 * found.scores.miou:.1f} %, {len(record[1])} per-image lines, {resident()} MB resident")


if __name__ == "__main__":
    main()
