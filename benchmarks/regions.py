"""Regions against human segmentations: BSDS500's 100 val photographs, by method and number of regions.

    python benchmarks/regions.py --data ../shared/data/bsds500 --out runs/regions

Prints the tables of docs/results.md and writes them with all settings to OUT/regions.json and
OUT/regions.md. The last rows are the hierarchies published with the set (gPb-OWT-UCM, of 40 train photographs), scored
by the same code.

At a number of regions: covering, boundary recall and precision within 2 pixels, undersegmentation error. ODS and OIS:
covering at the best scale for the set and for each photograph; a scale is a threshold of a hierarchy, or a number of
regions of SLIC and Felzenszwalb. Seconds are CPU time of one thread (wall clock on an idle core); reading files is left
out. With --methods only those are measured, and take their places in the tables that are in OUT already.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from region_scores import PROTOCOL, best_scales, covering, merged, overlaps, score
from rich.console import Console

from clips4.config import RegionConfig
from clips4.data.benchmarks.bsds import SegmentedPhotograph, load_bsds
from clips4.regions.contours import find_contours
from clips4.regions.superpixels import choose_implementation, superpixels
from clips4.regions.ucm import Hierarchy, merge_regions
from clips4.regions.watershed import oriented_watershed
from clips4.utils.extras import versions
from clips4.utils.images import RGB
from clips4.utils.progress import ProgressBars, counted

sys.path.insert(0, str(Path(__file__).parents[1]))  # the reader of published hierarchies is in tests
from tests.reference.ucm2 import from_ucm2, read_ucm2

COUNTS = (20, 48, 100)
_MORE_COUNTS = (3, 5, 8, 12)  # where SLIC and Felzenszwalb look for their best scale too
_THRESHOLDS = np.linspace(0, 1, 101)
PUBLISHED = "gPb-OWT-UCM as published (40 train)"
METHODS = ("slic", "felzenszwalb", "gradient-ucm", "hed-ucm", PUBLISHED)

Row = dict[str, object]


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bsds500"))
    parser.add_argument("--out", type=Path, default=Path("runs/regions"))
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--first", type=int, default=None, metavar="N", help="the first N photographs only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    one_thread_opencv()

    dataset = load_bsds(arguments.data)
    photographs = [dataset[index] for index in range(len(dataset))[: arguments.first]]
    file = arguments.out / "regions.json"
    before = json.loads(file.read_text()) if file.is_file() else {"rows": [], "seconds": {}}
    rows: list[Row] = [each for each in before["rows"] if each["method"] not in arguments.methods]
    seconds: dict[str, dict[str, float]] = before["seconds"]
    with ProgressBars(Console(stderr=True)) as bars:
        for method in arguments.methods:
            if method == PUBLISHED:
                rows += score_published(arguments.data, arguments.first, bars)
                continue
            settings = RegionConfig(method=method)
            if method.endswith("-ucm"):
                warm_up(settings, photographs[0].image)
                timed = [nested(each.image, settings) for each in counted(bars, method, photographs, len(photographs))]
                seconds[method] = {part: float(np.mean([t[part] for _, t in timed])) for part in timed[0][1]}
                rows += score_hierarchies(method, photographs, [h for h, _ in timed], sum(seconds[method].values()))
            else:
                rows += score_superpixels(method, photographs, bars)
    rows.sort(key=lambda each: METHODS.index(str(each["method"])))
    text = table(rows)
    if seconds:
        text += "\n\n" + timing_table(seconds)
    print(text)
    machine = {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    report = {
        "protocol": PROTOCOL,
        "photographs": len(photographs),
        "felzenszwalb": choose_implementation("felzenszwalb", "auto"),
        "machine": machine,
        "versions": versions(),
        "rows": rows,
        "seconds": seconds,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n")
    (arguments.out / "regions.md").write_text(text + "\n")


def score_published(data: Path, first: int | None, bars: ProgressBars) -> list[Row]:
    """The rows of the published hierarchies."""
    files = sorted((data / "ucm2" / "train").glob("*.mat"))[:first]
    train = load_bsds(data, "train")
    index = {path.stem: number for number, path in enumerate(train.images)}
    photographs = [train[index[file.stem]] for file in files]
    hierarchies = [from_ucm2(read_ucm2(file)) for file in counted(bars, PUBLISHED, files, len(files))]
    return score_hierarchies(PUBLISHED, photographs, hierarchies, None)


def one_thread_opencv() -> None:
    """OpenCV takes all cores otherwise."""
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(1)


def warm_up(settings: RegionConfig, image: RGB) -> None:
    """Load weights and modules, which is not part of a photograph's time."""
    nested(image, settings)


def nested(image: RGB, settings: RegionConfig) -> tuple[Hierarchy, dict[str, float]]:
    """A photograph's hierarchy and the seconds of its parts."""
    times = [time.process_time()]
    contours = find_contours(image, settings)
    times.append(time.process_time())
    arcs = oriented_watershed(contours)
    times.append(time.process_time())
    hierarchy = merge_regions(arcs, settings.small_share * contours.strength.size)
    times.append(time.process_time())
    return hierarchy, dict(zip(("contours", "watershed", "merging"), np.diff(times).tolist(), strict=True))


def score_hierarchies(
    method: str, photographs: Sequence[SegmentedPhotograph], hierarchies: Sequence[Hierarchy], seconds: float | None
) -> list[Row]:
    """A row for each number of regions; ODS and OIS over thresholds."""
    per_scale = []
    for photograph, hierarchy in zip(photographs, hierarchies, strict=True):
        shared = [overlaps(hierarchy.leaves, truth) for truth in photograph.truths]
        of_merges: dict[int, float] = {}
        for merges in {hierarchy.merges_up_to(threshold) for threshold in _THRESHOLDS}:
            table = hierarchy.table(merges)
            of_merges[merges] = float(np.mean([covering(merged(each, table)) for each in shared]))
        per_scale.append([of_merges[hierarchy.merges_up_to(threshold)] for threshold in _THRESHOLDS])
    ods, best, ois = best_scales(np.array(per_scale), weights(photographs))
    at = f"threshold {_THRESHOLDS[best]:.2f}"
    make = {count: [h.at_count(count) for h in hierarchies] for count in COUNTS}
    at_best = [h.at_threshold(_THRESHOLDS[best]) for h in hierarchies]
    return [
        row(method, str(count), partitions, photographs, ods, ois, seconds)
        for count, partitions in [*make.items(), (at, at_best)]
    ]


def score_superpixels(method: str, photographs: Sequence[SegmentedPhotograph], bars: ProgressBars) -> list[Row]:
    """A row for each number of regions; ODS and OIS over numbers of regions."""
    scales = sorted({*COUNTS, *_MORE_COUNTS})
    partitions: dict[int, list[NDArray[np.int32]]] = {}
    seconds = {}
    for count in counted(bars, method, scales, len(scales)):
        started = time.process_time()
        partitions[count] = [superpixels(each.image, method, count) for each in photographs]
        seconds[count] = (time.process_time() - started) / len(photographs)
    per_scale = [
        [
            float(np.mean([covering(overlaps(partitions[count][place], truth)) for truth in photograph.truths]))
            for count in scales
        ]
        for place, photograph in enumerate(photographs)
    ]
    ods, best, ois = best_scales(np.array(per_scale), weights(photographs))
    shown: list[tuple[str, int]] = [(str(count), count) for count in COUNTS]
    shown.append((f"count {scales[best]}", scales[best]))
    return [row(method, name, partitions[count], photographs, ods, ois, seconds[count]) for name, count in shown]


def weights(photographs: Sequence[SegmentedPhotograph]) -> NDArray[np.float64]:
    """What each photograph counts: its pixels, once per person."""
    return np.array([len(each.truths) * each.truths[0].size for each in photographs], np.float64)


def row(
    method: str,
    scale: str,
    partitions: Sequence[NDArray[np.int32]],
    photographs: Sequence[SegmentedPhotograph],
    ods: float,
    ois: float,
    seconds: float | None,
) -> Row:
    """One line of the table."""
    scores = score(partitions, [each.truths for each in photographs])
    return {"method": method, "scale": scale, **asdict(scores), "ods": ods, "ois": ois, "seconds": seconds}


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    columns: dict[str, tuple[str, Callable[[float], str]]] = {
        "regions": ("regions", "{:.1f}".format),
        "covering": ("covering", "{:.3f}".format),
        "recall": ("boundary recall", "{:.3f}".format),
        "precision": ("boundary precision", "{:.3f}".format),
        "undersegmentation": ("underseg. error", "{:.3f}".format),
        "ods": ("covering ODS", "{:.3f}".format),
        "ois": ("covering OIS", "{:.3f}".format),
        "seconds": ("s / image", "{:.3f}".format),
    }
    lines = [
        "| method | requested | " + " | ".join(title for title, _ in columns.values()) + " |",
        "|---|---|" + "---:|" * len(columns),
    ]
    for each in rows:
        cells = [show(each[key]) if each[key] is not None else "" for key, (_, show) in columns.items()]  # type: ignore[arg-type]
        lines.append(f"| {each['method']} | {each['scale']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def timing_table(seconds: dict[str, dict[str, float]]) -> str:
    """Markdown: milliseconds of each part on one core."""
    parts = list(next(iter(seconds.values())))
    lines = ["| milliseconds | " + " | ".join([*parts, "together"]) + " |", "|---|" + "---:|" * (len(parts) + 1)]
    for method, values in seconds.items():
        cells = [f"{1000 * value:.0f}" for value in [*values.values(), sum(values.values())]]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
