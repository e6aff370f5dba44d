"""Training CLIP-S4 from top to bottom: set up, then step by step from a batch to its losses to an update, and save."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch

from clips4.config import Config
from clips4.data.class_names import ClassList
from clips4.data.image_folder import SkippedImage
from clips4.data.loader import Batch, loader_error
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.errors import UserError
from clips4.method.labeled_prototypes import with_labeled
from clips4.models.checkpoint import Prototypes
from clips4.models.residual_student import ResidualStudent
from clips4.models.student import Embedder
from clips4.models.teachers.base import Teacher
from clips4.training.log import LOG, RunLog, read_log
from clips4.training.prototype_fitting import fit_to_labels, fit_to_student
from clips4.training.quality.assessment import assess
from clips4.training.quality.report import Quality, read_quality, write_quality
from clips4.training.setup import Run, open_batches, set_up
from clips4.training.step import report_nonfinite, training_step
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.progress import ProgressReporter


class Interrupted(Exception):
    """Ctrl-C during training; the run is saved at ``step``."""

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


class Callback(Protocol):
    """Evaluates the student while it is trained."""

    def __call__(self, step: int, student: Embedder, prototypes: Prototypes) -> dict[str, float]:
        """Write sample images or compute scores.

        Args:
            step: steps done.
            student: in eval mode, on its device.
            prototypes: known and unknown, as they are now.

        Returns:
            Values for the log by name.
        """


@dataclass(frozen=True, repr=False)
class TrainResult:
    """The outcome of ``train``.

    Attributes:
        run: its folder.
        steps: steps done.
        images: number of images it was trained on.
        skipped: images that could not be used, with the reason.
        left_out_steps: steps without an update, since the loss or its gradient was not finite.
        training: image files or shards it was trained on.
        held_out: images kept out of training for the quality report.
        quality: the report, on the first rank.
    """

    run: Path
    steps: int
    images: int
    skipped: list[SkippedImage]
    left_out_steps: int = 0
    training: list[Path] = field(default_factory=list)
    held_out: list[Path] = field(default_factory=list)
    quality: Quality | None = None

    def __repr__(self) -> str:
        counts = f"{self.steps} steps on {self.images} images, {len(self.skipped)} skipped"
        return f"TrainResult({self.run}: {counts}{f', {self.quality.line()}' if self.quality else ''})"


def train(
    paths: Sequence[Path],
    classes: ClassList,
    config: Config,
    run: Path,
    resume: bool = False,
    device: str = "auto",
    progress: ProgressReporter | None = None,
    callback: Callback | None = None,
    teacher: Teacher | None = None,
    report: bool = True,
    labels: LabeledFolder | None = None,
) -> TrainResult:
    """Train a student on unlabeled images.

    Started by torchrun or Slurm, this is one rank of several, each with ``train.batch`` images: n ranks of batch B
    train like one rank of batch n * B.

    Args:
        paths: image files or tar shards, as ``find_training_images`` returns them; broken images are skipped and
            listed in the result.
        classes: the known classes.
        config: all settings.
        run: folder for checkpoints and ``log.jsonl``.
        resume: continue from the newest checkpoint of ``run``; the result equals that of an uninterrupted run.
        device: "auto", "cpu", "cuda" or "mps".
        progress: reports each stage and step.
        callback: evaluates the student every ``train.eval_every`` steps, and after the last one.
        teacher: instead of the one that ``config.teacher`` names; for experiments, since a run only keeps the name.
        report: whether to measure the run at its end, see ``training.quality``; where that finds the student spoiled,
            predictions use the teacher.
        labels: a few labeled images: the mean of a class's labeled pixels is its prototype, in place of one found by
            text. Classes without labeled pixels keep the one found by text.

    Returns:
        The run's folder, the number of steps and images, what was skipped, and the quality report.

    Raises:
        UserError: no usable image, ``run`` already holds a run, or the run to resume has other settings.
        Interrupted: Ctrl-C, after saving.

    ``clips4.train`` is a front for it that takes folders, names and presets.
    """
    with ExitStack() as stack:
        setup = set_up(paths, classes, config, run, resume, device, progress, stack, teacher, labels)
        setup.progress.stage("training", setup.config.train.steps - setup.state.step)
        write_log = stack.enter_context(RunLog(run / LOG, setup.state.step, setup.rank == 0))
        interrupted = stack.enter_context(deferred_interrupt())
        try:
            # a loader process that is left open keeps the program from ending after an error
            batches = stack.enter_context(closing(open_batches(setup)))
            _train(setup, batches, write_log, interrupted, callback, report)
        except (RuntimeError, OSError, UserError) as error:
            if (found := loader_error(error)) is None:
                raise
            raise found from error
    state, skipped, out = setup.state, list(setup.skipped.values()), setup.held_out
    unused = {*out, *(each.path for each in skipped)}
    used = [path for path in paths if path not in unused]
    return TrainResult(run, state.step, setup.images, skipped, state.left_out, used, out, read_quality(run))


def _train(
    setup: Run,
    batches: Iterator[Batch],
    write_log: Callable[[Mapping[str, float]], None],
    interrupted: Callable[[], bool],
    callback: Callback | None,
    report: bool,
) -> None:
    """From the current step to the last, or to an interruption."""
    state, settings = setup.state, setup.config.train
    setup.model.train()
    started = time.perf_counter()
    while state.step < settings.steps:
        step = training_step(setup, batches, interrupted)
        report_nonfinite(setup, step)
        now = time.perf_counter()
        line = {"step": state.step, "seconds": round(now - started, 4), "rate_factor": step.lr_factor}
        line |= step.values._asdict()
        started = now
        ends = state.step == settings.steps
        if callback and settings.eval_every and (ends or state.step % settings.eval_every == 0):
            line |= evaluate(setup, callback)
        write_log(line)
        setup.progress.advance({name: value for name, value in step.values._asdict().items() if name != "norm"})
        if ends:
            fit_prototypes(setup)
            if report:
                write_report(setup)
        # ranks agreed on stopping within the step; a single one also stops for a Ctrl-C since then
        stop = interrupted() if setup.world == 1 else step.interrupted
        if stop or state.step % settings.save_every == 0 or ends:
            save(setup)
        if stop:
            raise Interrupted(state.step)


def evaluate(run: Run, callback: Callback) -> dict[str, float]:
    """Call back with the student in eval mode, on the first rank only; returns values for the log."""
    if run.rank:
        return {}
    student = run.state.result
    training = student.training
    student.eval()
    with torch.no_grad():
        values = callback(run.state.step, student, run.state.current_prototypes())
    student.train(training)
    return values


def fit_prototypes(run: Run) -> None:
    """After the last step: the prototypes that the trained student is queried with."""
    prototypes, student = run.state.current_prototypes(), run.state.result
    if isinstance(student, ResidualStudent):
        student.head_scale = run.config.extensions.head_scale
        prototypes = replace(prototypes, head_scale=student.head_scale)
    run.state.prototypes = fit_to_student(
        prototypes, student, run.source, run.config, run.regions, run.teacher_maps, run.fabric.device, run.progress
    )
    if run.labels is not None and (fitted := run.state.prototypes.fitted) is not None:
        found = fit_to_labels(student, run.labels, run.config, run.fabric.device, run.progress)
        rows = run.state.prototypes.rows_per_class
        run.state.prototypes = replace(run.state.prototypes, fitted=with_labeled(fitted, found, rows))


def write_report(run: Run) -> None:
    """After the last step: ``quality.json``, and in the checkpoint's card what predictions use."""
    if run.rank == 0:
        quality = assess(run, read_log(run.folder / LOG))
        write_quality(run.folder, quality)
        run.facts["use"] = quality.use


def save(run: Run) -> None:
    """Write a checkpoint, from the first rank."""
    if run.rank == 0:
        run.state.save(run.folder, run.config, run.facts)
