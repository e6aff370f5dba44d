"""Temporal smoothing: how much labels flicker in video with and without it, and what it does to their accuracy.

    python benchmarks/temporal_smoothing.py RUN DAVIS --classes coco128

Flicker is the share of pixels whose label changes between two frames; moving objects and cameras change labels too, so
only the ratio is meaningful. Accuracy: recall and IoU of the object that is annotated in a sequence (DAVIS-2016).
"""

import argparse
import time
from pathlib import Path

import numpy as np

from clips4 import Segmenter
from clips4.data.benchmarks.davis import load_davis
from clips4.data.masks import read_mask
from clips4.inference.video.temporal_smoothing import Steadiness, SteadyEmbeddings, flicker
from clips4.utils.images import load_rgb

NAMED = {  # sequence -> the coco128 class of its annotated object
    "blackswan": "bird",
    "car-roundabout": "car",
    "cows": "cow",
    "dog": "dog",
    "drift-straight": "car",
    "horsejump-high": "horse",
}


def measure(segmenter: Segmenter, frames: list, masks: list, label: int, classes: str, how: Steadiness) -> list[float]:  # type: ignore[type-arg]
    """Flicker, recall and IoU of the named object, seconds per frame."""
    query, steady, before = segmenter.query(classes), SteadyEmbeddings(how), None
    changes, recalls, overlaps = [], [], []
    start = time.perf_counter()
    for frame, mask in zip(frames, masks, strict=True):
        encoded = segmenter.encode_image(frame)
        labels = segmenter.predict(encoded._replace(z=steady(encoded.z)), query, unknown=False).labels
        if before is not None:
            changes.append(flicker(before, labels))
        before, own = labels, labels == label
        recalls.append(float(own[mask].mean()) if mask.any() else np.nan)
        overlaps.append(float((own & mask).sum() / max(1, (own | mask).sum())))
    seconds = (time.perf_counter() - start) / len(frames)
    return [float(np.mean(changes)), float(np.nanmean(recalls)), float(np.mean(overlaps)), seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("davis", type=Path)
    parser.add_argument("--classes", default="coco128")
    parser.add_argument("--frames", type=int, default=50, help="of each sequence")
    parser.add_argument("--weights", default="0,0.6,0.8,0.9")
    parser.add_argument("--radius", type=int, default=3)
    parser.add_argument("--low", type=float, default=0.5)
    given = parser.parse_args()
    segmenter = Segmenter.load(given.run, device="cpu")
    names = segmenter.query(given.classes).names
    rows: dict[float, list[list[float]]] = {float(weight): [] for weight in given.weights.split(",")}
    for video in load_davis(given.davis):
        if video.name not in NAMED:
            continue
        frames = [load_rgb(path) for path in video.frames[: given.frames]]
        masks = [read_mask(path, "davis16") > 0 for path in video.masks[: given.frames]]
        for weight in rows:
            how = Steadiness(weight, given.radius, given.low)
            found = measure(segmenter, frames, masks, names.index(NAMED[video.name]), given.classes, how)
            rows[weight].append(found)
            print(f"{video.name:16} {described(weight, found)}", flush=True)
    alone = float(np.mean(rows[min(rows)], 0)[0])
    for weight, each in rows.items():
        mean = np.mean(each, 0).tolist()
        ratio = mean[0] / alone
        print(
            f"{'mean of ' + str(len(each)):16} {described(weight, mean)}  {ratio:.2f} of the flicker of {min(rows):.2f}"
        )


def described(weight: float, found: list[float]) -> str:
    """One row of the output."""
    changed, recall, overlap, seconds = found
    return (
        f"weight {weight:.2f}  flicker {100 * changed:5.2f} %  recall {100 * recall:5.1f}  IoU {100 * overlap:5.1f}  "
        f"{1000 * seconds:.0f} ms a frame"
    )


if __name__ == "__main__":
    main()
