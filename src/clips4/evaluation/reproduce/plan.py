"""What a table needs, step by step, and where each step's result lies; nothing is computed here."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from clips4.config import Config, load_config
from clips4.data.benchmarks.davis import load_davis
from clips4.data.benchmarks.registry import SEMANTIC
from clips4.errors import UserError
from clips4.evaluation.reproduce.tables import Scoring, Table, Training
from clips4.utils.cache import settings_key
from clips4.utils.text import read_json

STEPS, RUNS, FIGURES = "steps", "runs", "figures"
# folders below --data that a set's archives are unpacked in; "" is --data itself
_HOMES = {
    "voc": ("", "VOC2012", "voc"),
    "context": ("", "VOC2010", "context"),
    "coco-stuff": ("coco", "COCO", "coco_stuff164k", "cocostuff", ""),
    "coco-object": ("coco", "COCO", "coco_stuff164k", "cocostuff", ""),
    "ade": ("", "ade", "ADE20K"),
    "cityscapes": ("cityscapes", "Cityscapes", ""),
    "davis": ("DAVIS", "davis17", "davis16", ""),
    "coco128": ("coco128", ""),
    "camvid": ("camvid", ""),
}


@dataclass(frozen=True)
class Check:
    """A look at a copy of a set: every label of a split that is scored or learned from, else its files alone."""

    dataset: str
    split: str
    labels: bool


@dataclass(frozen=True)
class Step:
    """Work that is done once, and its name in ``OUT/steps``."""

    name: str
    work: Check | Training | Scoring
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """A table and how it is made.

    Attributes:
        table: with its sets.
        data: folder that holds the sets, each as its archives unpack.
        out: folder of steps, runs and tables.
        preset, overrides: of all trainings.
        protocol: of language-driven scores.
        seeds: of all trainings.
        device: "auto", "cpu", "cuda" or "mps".
        processes: of each training, started by torchrun where there are several.
        partial: whether sets with fewer images than published are used.
        stand_in: whether the sets stand in for those of the paper.
    """

    table: Table
    data: Path
    out: Path
    preset: str = "paper"
    overrides: tuple[str, ...] = ()
    protocol: str = "clips4-v1"
    seeds: tuple[int, ...] = (0,)
    device: str = "auto"
    processes: int = 1
    partial: bool = False
    stand_in: bool = False

    def config(self, training: Training | None = None, seed: int = 0) -> Config:
        """The configuration of a training; without one that of the teacher alone.

        Raises:
            UserError: see ``load_config``.
        """
        own = training.overrides if training else ()
        return load_config(self.preset, [*self.overrides, *own, f"train.seed={seed}"])

    def run(self, training: Training, seed: int) -> Path:
        """The folder of a run; tables that need the same run share it."""
        return self.out / RUNS / training.name / f"seed-{seed}"

    def steps(self) -> list[Step]:
        """All steps in order: checks of the sets, trainings, scorings."""
        found: dict[tuple[str, str], Check] = {}
        for scoring in self.table.scorings:
            _add(found, Check(scoring.choice.dataset, scoring.choice.score, True))
            if scoring.kind == "unsupervised":
                _add(found, Check(scoring.choice.dataset, scoring.choice.train, True))
        for training in self.table.trainings:
            _add(found, Check(training.dataset, training.split, False))
        # tables that share a folder may differ in what they need of a split
        steps = [
            Step(f"check-{'labels' if check.labels else 'files'}-{check.dataset}-{check.split}", check)
            for check in found.values()
        ]
        for training in self.table.trainings:
            steps += [Step(f"train-{training.name}-seed-{seed}", training, seed) for seed in self.seeds]
        for scoring in self.table.scorings:
            if scoring.training is None:
                steps.append(Step(f"score-{scoring.name}", scoring))
            else:
                steps += [Step(f"score-{scoring.name}-seed-{seed}", scoring, seed) for seed in self.seeds]
        return steps

    def key(self, step: Step) -> str:
        """A hash of everything that the result of a step depends on but for the files of the sets."""
        work = step.work
        parts: dict[str, object] = {"work": asdict(work), "seed": step.seed}
        if isinstance(work, Scoring):  # the same scoring in two tables is one, whatever else they use the set for
            learned = work.choice.train if work.kind == "unsupervised" else ""
            parts["work"] = {**asdict(work), "choice": [work.choice.dataset, work.choice.score, learned]}
        if isinstance(work, Check):
            return settings_key({**parts, "partial": self.partial})
        training = work if isinstance(work, Training) else work.training
        parts["config"] = self.config(training, step.seed).decisive()
        if isinstance(work, Scoring) and work.kind in ("language", "figure"):
            parts["protocol"] = self.protocol
        return settings_key(parts)

    def path(self, step: Step) -> Path:
        """The file of a step's result; it appears when the step is complete."""
        return self.out / STEPS / f"{step.name}.json"

    def result(self, step: Step) -> dict[str, object] | None:
        """The result of a complete step; None where it is not done.

        A check is the same with and without ``partial``, but for a set with fewer images than published.

        Raises:
            UserError: it was done with other settings.
        """
        path = self.path(step)
        if not path.is_file():
            return None
        found = read_json(path)
        if isinstance(step.work, Check) and found.get("key") == replace(self, partial=not self.partial).key(step):
            whole = found["result"]["images"] >= found["result"]["published"]
            return {**found, "key": self.key(step)} if whole or self.partial else None
        if found.get("key") != self.key(step):
            raise UserError(f"{path}: was done with other settings; give another --out, or remove this file")
        return found

    def root(self, dataset: str, split: str) -> Path:
        """The folder below ``data`` that holds a set.

        Raises:
            UserError: it is in none of the usual ones; the error is that of the first that exists.
        """
        prefix = next(name for name in ("coco128", *_HOMES) if dataset.startswith(name))
        first: UserError | None = None
        for home in _HOMES[prefix]:
            root = self.data / home
            if not root.is_dir():
                continue
            try:
                if dataset in SEMANTIC:
                    SEMANTIC[dataset].pair(root, split)
                else:
                    load_davis(root, dataset, split)
                return root
            except UserError as error:
                first = first or error
        if first is None:
            raise UserError(f"{self.data}: no such folder; give the folder that holds the sets")
        raise UserError(f"--data {self.data}: {dataset} {split} is not there ({first})")


def _add(found: dict[tuple[str, str], Check], check: Check) -> None:
    key = check.dataset, check.split
    known = found.get(key)
    found[key] = check if known is None else replace(known, labels=known.labels or check.labels)
