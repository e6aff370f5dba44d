"""Student, the ImageNet backbone it started from, and raw color on CamVid: k-means, k-NN, linear probe.

    python benchmarks/unsupervised.py --data ../shared/data/camvid --run runs/camvid --out runs/camvid-scores.json

k-NN and the linear probe learn from the labels of train. Scored on val's 101 images, with features of the same image
size and stride in every row. --every N takes every Nth image of val, --train-every N of train; state both with figures.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from torch import Tensor

from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.evaluation.record import provenance, write_json
from clips4.evaluation.unsupervised.clusters import score_clusters
from clips4.evaluation.unsupervised.knn import score_retrieval
from clips4.evaluation.unsupervised.linear_probe import score_linear_probe
from clips4.inference.encoding.encoder import Encoder
from clips4.inference.encoding.features import load_features
from clips4.outputs.tables import markdown
from clips4.utils.cache import image_key
from clips4.utils.images import RGB
from clips4.utils.progress import ProgressBars


def main() -> None:
    """Score, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camvid"))
    parser.add_argument("--dataset", default="camvid11")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--rows", default="color,backbone,backbone-mid,student")
    parser.add_argument("--tasks", default="clusters,knn,linear-probe")
    parser.add_argument("--side", type=int, default=480)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--train-every", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    spec = semantic_spec(arguments.dataset)
    val = _thin(spec.load(arguments.data, "val"), arguments.every)
    train = _thin(spec.load(arguments.data, "train"), arguments.train_every)
    table: dict[str, dict[str, object]] = {}
    with ProgressBars(Console(stderr=True)) as bars:
        for kind in arguments.rows.split(","):
            features = _cached(load_features(kind, arguments.run, arguments.side, "cpu"))
            row: dict[str, object] = {}
            for task in arguments.tasks.split(","):
                started = time.perf_counter()
                if task == "clusters":
                    found = score_clusters(features, val, progress=bars)
                elif task == "knn":
                    found = score_retrieval(features, train, val, progress=bars)
                else:
                    found = score_linear_probe(features, train, val, progress=bars)
                row[task], row[f"{task}_accuracy"] = found.scores.miou_present, found.scores.pixel_accuracy
                row[f"{task}_seconds"] = round(time.perf_counter() - started)
            table[kind] = row
            print(kind, row, flush=True)
    columns: dict[str, str] = {}
    for task, heading in (("clusters", "k-means"), ("knn", "k-NN"), ("linear-probe", "linear probe")):
        columns |= {task: f"{heading} mIoU", f"{task}_accuracy": "accuracy"}
    print(markdown(table, columns))
    if arguments.out:
        settings = {
            "side": arguments.side,
            "every": arguments.every,
            "train_every": arguments.train_every,
            "run": str(arguments.run),
        }
        write_json(arguments.out, {**settings, **provenance(), "rows": table})


def _cached(features: Encoder) -> Callable[[RGB], Tensor]:
    """The same features, each image encoded once for all three tasks (some 2 GB)."""
    known: dict[str, Tensor] = {}

    def encode(image: RGB) -> Tensor:
        key = image_key(image)
        if key not in known:
            known[key] = features.embed(image)
        return known[key]

    return encode


def _thin(dataset: LabeledFolder, every: int) -> LabeledFolder:
    return replace(dataset, images=dataset.images[::every], masks=dataset.masks[::every])


if __name__ == "__main__":
    main()
