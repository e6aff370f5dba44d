"""Speed of scoring saved predictions: semantic confusion, and J and F compared with their literal versions.

    python benchmarks/score.py --data ../shared/data/davis16
    python benchmarks/score.py --data ../shared/data/davis16 --commands --images 10000

``--commands`` times whole commands, the start of Python included: `clips4 score tracking` of the ten sequences, and
`clips4 score semantic` of label maps of 512 x 512, which are 64 maps of 17 classes under many names, with outlines and
without; by the clock and by the processor. Otherwise functions alone:

Semantic: 512 x 512 maps of 150 classes in memory, one process. J and F: the ten sequences, predictions made by shifting
the truth; equal to tests/reference/davis.py to 1e-9, and the ratio of the times per frame. Times are processor time.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from clips4.data.benchmarks.davis import load_davis
from clips4.data.masks import read_mask
from clips4.evaluation.metrics.boundary_f import boundary_f
from clips4.evaluation.metrics.confusion import confusion_matrix
from clips4.evaluation.metrics.davis import contour_accuracy, region_similarity

sys.path.insert(0, str(Path(__file__).parents[1]))  # the literal version lies among the tests
from tests.reference import davis as literal


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/davis16"))
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--every", type=int, default=1, help="every Nth frame of DAVIS")
    parser.add_argument("--commands", action="store_true")
    arguments = parser.parse_args()
    if arguments.commands:
        with tempfile.TemporaryDirectory() as folder:
            commands(arguments.data, arguments.images, Path(folder))
        return
    semantic(arguments.images)
    if arguments.data.is_dir():
        tracking(arguments.data, arguments.every)


def commands(root: Path, count: int, folder: Path) -> None:
    """Whole commands, with as many workers as they choose, and with one."""
    for video in load_davis(root):
        (folder / "tracked" / video.name).mkdir(parents=True)
        for index, path in enumerate(video.masks):
            truth = (read_mask(path, "davis16") > 0).astype(np.uint8) * 255
            shifted = np.roll(truth, ((3, 5), (0, 12), (-25, 40))[index % 3], (0, 1))
            Image.fromarray(shifted).save(folder / "tracked" / video.name / path.name)
    truths = video.masks[0].parents[1]
    draw = np.random.default_rng(0)
    for kind, blur in (("true", 0), ("predicted", 9)):
        (folder / kind).mkdir()
        for number in range(min(64, count)):
            coarse = Image.fromarray(np.random.default_rng(number).integers(0, 17, (12, 12)).astype(np.uint8))
            labels = np.array(coarse.resize((512, 512), Image.Resampling.NEAREST))
            labels = np.roll(labels, draw.integers(0, blur + 1, 2), (0, 1))
            Image.fromarray(labels).save(folder / kind / f"{number:05}.png")
        for number in range(64, count):
            (folder / kind / f"{number:05}.png").hardlink_to(folder / kind / f"{number % 64:05}.png")
    maps = ["semantic", "--pred", f"{folder}/predicted", "--gt", f"{folder}/true"]
    maps += ["--classes", ",".join(f"class {number}" for number in range(17))]
    tracking = ["tracking", "--pred", f"{folder}/tracked", "--gt", str(truths)]
    for name, arguments in (("tracking", tracking), ("maps", [*maps, "--no-boundary"]), ("maps with outlines", maps)):
        clock, processor = run_command(arguments)[0], run_command([*arguments, "--workers", "1"])[1]
        print(f"score, {name}: {clock:.2f} s; by one process {processor:.2f} s of the processor", flush=True)


def run_command(arguments: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of the processor; those of worker processes are not counted."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "clips4", "score", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def semantic(count: int) -> None:
    """Blocky maps, as labels are, and pixel noise, the worst case."""
    draw = np.random.default_rng(0)
    coarse = [Image.fromarray(draw.integers(0, 150, (12, 12)).astype(np.uint8)) for _ in range(16)]
    blocky = [np.array(image.resize((512, 512), Image.Resampling.NEAREST)) for image in coarse]
    noisy = [draw.integers(0, 150, (512, 512)).astype(np.uint8) for _ in range(16)]
    for name, maps in (("label maps", blocky), ("pixel noise", noisy)):
        confusion_matrix(maps[0], maps[1], 150)
        started = time.process_time()
        for index in range(count):
            confusion_matrix(maps[index % 16], maps[(index + 1) % 16], 150)
        print(f"confusion matrix, {name}: {count / (time.process_time() - started):.0f} images of 512 x 512 a second")
    started = time.process_time()
    for index in range(8):
        boundary_f(blocky[index], blocky[index + 1], 150)
    print(f"boundary F, label maps of some 90 classes each: {8 / (time.process_time() - started):.1f} images a second")


def tracking(root: Path, every: int) -> None:
    """All frames, several shifts; seconds of processor time."""
    ours = theirs = 0.0
    worst, frames = 0.0, 0
    for video in load_davis(root):
        for index, path in enumerate(video.masks[::every]):
            truth = read_mask(path, "davis16") > 0
            prediction = np.roll(truth, ((3, 5), (0, 12), (-25, 40))[index % 3], (0, 1))
            started = time.process_time()
            found = region_similarity(truth, prediction), contour_accuracy(truth, prediction)
            ours += time.process_time() - started
            started = time.process_time()
            expected = literal.jaccard(truth, prediction), literal.f_measure(truth, prediction)
            theirs += time.process_time() - started
            worst = max(worst, *(abs(a - b) for a, b in zip(found, expected, strict=True)))
            frames += 1
    print(
        f"J and F: {1e3 * ours / frames:.1f} ms a frame, literal {1e3 * theirs / frames:.0f} ms, "
        f"{theirs / ours:.0f} times as fast; {frames} frames, largest difference {worst:.1e}"
    )


if __name__ == "__main__":
    main()
