"""What a user with a few images gets: 24 small jobs, each trained and predicted with the defaults, beside the teacher.

    python benchmarks/small_jobs.py --data ../shared/data --out runs/small_jobs --seeds 0 1 2

The jobs are those of ``jobs.py``. Each student is trained by ``clips4 train`` with its default preset and predicts with
its defaults, unknown included. The teacher alone, at its own defaults, is queried by text (``clips4 segment
--teacher-only``) and by the prototypes that the same images give it in its raw space.

Prints for each job the score over the names (on pixels that show one of them) and the gain over the teacher, then for
each seed, and for each job's mean over the seeds, the mean, median and worst gain, in how many jobs the student is
better or level (within 2 %) and in how many it is worse by more than 5 %. Writes OUT/seed-N/scores.json; jobs that are
in it are not run again.
"""

import argparse
import json
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jobs import Job, Prediction, Score, make_jobs, score
from numpy.typing import NDArray
from rich.console import Console

from clips4.config import Config, load_config
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import Prototypes, checkpoint_folders
from clips4.training.loop import train
from clips4.training.recipe import choose_config
from clips4.training.setup import set_up
from clips4.utils.images import load_rgb
from clips4.utils.progress import ProgressBars

RAW = ["teacher.calibrate=false", "extensions.exclusive_prototypes=false", "prototypes.unknown=0"]
LEVEL, WORSE = -0.02, -0.05
TEACHERS = ("teacher by text", "teacher by prototypes")


def by_vectors(segmenter: Segmenter, vectors: torch.Tensor) -> Prediction:
    """The nearest of (K, D) class vectors for every pixel."""

    def predict(path: Path) -> NDArray[np.integer]:
        return segmenter.classify(segmenter.encode_image(load_rgb(path)), vectors)[0].cpu().numpy()

    return predict


def teacher_prototypes(job: Job, config: Config, folder: Path, bars: ProgressBars) -> Prototypes:
    """Text vectors and prototypes of the teacher's raw space, from the job's training images."""
    with ExitStack() as stack:
        return set_up(list(job.train), job.classes, config, folder, False, "cpu", bars, stack).state.prototypes


def score_job(job: Job, preset: str, overrides: list[str], out: Path, bars: ProgressBars) -> dict[str, Score]:
    """Scores of both teachers and of the student, with and without unknown."""
    config, _ = choose_config(preset, job.train, overrides, None, "cpu")
    raw = load_config("recommended", RAW)
    vectors = teacher_prototypes(job, raw, out / "teacher" / job.name, bars)
    teacher = Segmenter.from_teacher(raw.teacher.name, raw)
    run = out / job.name
    train(list(job.train), job.classes, config, run, bool(checkpoint_folders(run)), progress=bars)
    student = Segmenter.load(run, "cpu")
    found = dict(
        zip(TEACHERS, (score(job, by_vectors(teacher, v)) for v in (vectors.text, vectors.known)), strict=True)
    )
    found["student"] = score(job, lambda path: student.segment(path).labels)
    found["student without unknown"] = score(job, lambda path: student.segment(path, unknown=False).labels)
    found["student by text"] = score(job, lambda path: student.segment(path, vectors="text").labels)
    return found


Results = dict[str, dict[str, Any]]  # job -> row -> column -> score; job -> "half" -> "A" or "B"


def mean_over_seeds(seeds: list[Results]) -> Results:
    """The mean of every value, for the jobs that all seeds have."""
    jobs = [job for job in seeds[0] if all(job in results for results in seeds)]
    return {
        job: {
            row: values
            if row == "half"
            else {column: float(np.mean([results[job][row][column] for results in seeds])) for column in values}
            for row, values in seeds[0][job].items()
        }
        for job in jobs
    }


def describe(results: Results, column: str = "named") -> str:
    """A Markdown table of gains, for each half and both."""
    lines = [
        "| jobs | prediction | mean | over | mean gain | median | worst | level or better | worse than -5 % |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for half in ("A", "B", "AB"):
        rows = [each for each in results.values() if each["half"] in half]
        if not rows:
            continue
        for row in [name for name in rows[0] if name != "half" and name not in TEACHERS]:
            for base in (*TEACHERS, "the better of both"):
                own = np.array([each[row][column] for each in rows])
                against = np.array(
                    [max(each[t][column] for t in TEACHERS if base not in TEACHERS or t == base) for each in rows]
                )
                gain = own / np.maximum(against, 1e-6) - 1
                lines.append(
                    f"| {half} ({len(rows)}) | {row} | {100 * own.mean():.1f} | {base}, {100 * against.mean():.1f} | "
                    f"{100 * gain.mean():+.1f} % | {100 * np.median(gain):+.1f} % | {100 * gain.min():+.1f} % | "
                    f"{(gain >= LEVEL).sum()} | {(gain < WORSE).sum()} |"
                )
    return "\n".join(lines)


def describe_jobs(seeds: list[Results]) -> str:
    """A Markdown table of the jobs: scores of the teacher and the student, and how they vary over the seeds."""
    lines = [
        "| job | teacher by text | teacher by prototypes | student | student by text | of it called unknown |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for job, rows in mean_over_seeds(seeds).items():
        scores = [f"{100 * rows[row]['named']:.1f}" for row in (*TEACHERS, "student", "student by text")]
        if len(seeds) > 1:
            scores[2] += f" ± {100 * np.std([results[job]['student']['named'] for results in seeds], ddof=1):.1f}"
        lines.append(f"| {job} ({rows['half']}) | {' | '.join(scores)} | {100 * rows['student']['eaten']:.1f} |")
    return "\n".join(lines)


def run_jobs(arguments: argparse.Namespace, seed: int, bars: ProgressBars) -> Results:
    """The jobs of one seed that have no scores yet, and what the others had."""
    out = arguments.out / f"seed-{seed}"
    file = out / "scores.json"
    results: Results = json.loads(file.read_text()) if file.is_file() else {}
    for job in make_jobs(arguments.data):
        if job.half not in arguments.half or job.name in results:
            continue
        started = time.perf_counter()
        found = score_job(job, arguments.preset, [*arguments.set, f"train.seed={seed}"], out, bars)
        results[job.name] = {"half": job.half} | {row: asdict(each) for row, each in found.items()}
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results, indent=2) + "\n")
        cells = ", ".join(f"{row} {100 * each.named:.1f}" for row, each in found.items())
        eaten = 100 * found["student"].eaten
        print(f"{job.name}: {cells}; eaten {eaten:.1f} %; {time.perf_counter() - started:.0f} s", flush=True)
    return results


def main() -> None:
    """Run the jobs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/small_jobs"))
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--half", default="AB", choices=["A", "B", "AB"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()

    with ProgressBars(Console(stderr=True)) as bars:
        seeds = {seed: run_jobs(arguments, seed, bars) for seed in arguments.seeds}
    tables = {f"seed {seed}": results for seed, results in seeds.items()}
    if len(seeds) > 1:
        tables["each job's mean over the seeds"] = mean_over_seeds(list(seeds.values()))
    for column, title in (("named", "Pixels that show one of the names"), ("all", "All labeled pixels")):
        for which, results in tables.items():
            print(f"\n{title}, {which}\n\n{describe(results, column)}")
    print(f"\n{describe_jobs(list(seeds.values()))}")


if __name__ == "__main__":
    main()
