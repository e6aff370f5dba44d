"""The work of each step: check a set, train a run, score it."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from clips4.data.benchmarks.registry import SEMANTIC, semantic_spec
from clips4.data.benchmarks.verify import check_set
from clips4.errors import UserError
from clips4.evaluation.protocols import language_protocol, training_set
from clips4.evaluation.queries import text_query
from clips4.evaluation.record import write_json
from clips4.evaluation.report.class_pixels import pixels_by_class
from clips4.evaluation.report.plots import plot_embedding
from clips4.evaluation.reproduce.plan import FIGURES, Check, Plan, Step
from clips4.evaluation.reproduce.tables import Scoring, Training
from clips4.evaluation.run import TASKS, evaluate_by_language, evaluate_unsupervised
from clips4.evaluation.unsupervised.clusters import ClusterRecipe
from clips4.evaluation.unsupervised.knn import RetrievalRecipe
from clips4.evaluation.unsupervised.linear_probe import LinearProbeRecipe
from clips4.evaluation.vos import evaluate_tracking
from clips4.inference.refine.maskclip import Refinement
from clips4.inference.segmenter import Segmenter
from clips4.inference.video.label_propagation import Recipe
from clips4.models.calibrated_teacher import calibrated
from clips4.models.checkpoint import checkpoint_folders
from clips4.models.teachers.base import load_teacher, teacher_names
from clips4.training.loop import train
from clips4.utils import distributed
from clips4.utils.atomic_io import write_atomically
from clips4.utils.devices import pick_device
from clips4.utils.progress import ProgressReporter

_SIDE, _TRACKING_SIDE = 480, 854  # pixels of the long side, as `clips4 evaluate` has them
Result = dict[str, Any]


def do_steps(plan: Plan, progress: ProgressReporter) -> list[tuple[Step, Result]]:
    """All steps of a plan with their results; those that are complete are not done again.

    Raises:
        UserError: a set is missing or differs from the published one, or a step was done with other settings.
        Interrupted: Ctrl-C during a training, after saving.
    """
    if distributed.world_size() > 1:
        raise UserError("start clips4 reproduce once, not by torchrun; --processes N starts N ranks for each training")
    steps = plan.steps()
    done = {step: plan.result(step) for step in steps}  # other settings are reported before hours of work
    results = []
    for number, step in enumerate(steps, 1):
        found = done[step]
        if found is None:
            progress.log(f"step {number} of {len(steps)}: {step.name}")
            started = time.perf_counter()
            result = _do(plan, step, progress)
            seconds = round(time.perf_counter() - started, 1)
            found = {"step": step.name, "key": plan.key(step), "seconds": seconds, "result": result}
            plan.path(step).parent.mkdir(parents=True, exist_ok=True)
            write_json(plan.path(step), found)
        results.append((step, found))
    return results


def _do(plan: Plan, step: Step, progress: ProgressReporter) -> Result:
    work = step.work
    if isinstance(work, Check):
        return _check(plan, work, progress)
    if isinstance(work, Training):
        return _train(plan, work, step.seed, progress)
    return _score(plan, work, step.seed, progress)


def _check(plan: Plan, check: Check, progress: ProgressReporter) -> Result:
    """Counts, and for labels that are used their sizes and values.

    Raises:
        UserError: the copy differs from the published set; with ``partial`` it may have fewer images.
    """
    root = plan.root(check.dataset, check.split)
    if check.labels:
        found = check_set(check.dataset, root, check.split, progress)
        count, expected, problems, notes = found.count, found.expected, found.problems, found.notes
    else:
        spec = semantic_spec(check.dataset)
        count, expected, notes = len(spec.pair(root, check.split)[0]), spec.splits[check.split], []
        problems = [] if count == expected else [f"{count} images, {expected} were published"]
    if count < expected and plan.partial:
        problems = problems[:-1]  # the last one is about the count
    if problems:
        hint = "; --partial uses it as it is" if 0 < count < expected else ""
        raise UserError(f"{root}: {check.dataset} {check.split} is not as published: {problems[0]}{hint}")
    return {"root": str(root), "images": count, "published": expected, "notes": notes}


def _train(plan: Plan, training: Training, seed: int, progress: ProgressReporter) -> Result:
    """Train a run, or resume it; in this process, or in several by torchrun."""
    root, run = plan.root(training.dataset, training.split), plan.run(training, seed)
    if plan.processes > 1:
        _train_in_processes(plan, training, seed, root, run)
        return {"run": str(run.relative_to(plan.out)), "processes": plan.processes}
    paths, classes = training_set(training.dataset, root, training.split, training.fold)
    config, resume = plan.config(training, seed), bool(checkpoint_folders(run))
    result = train(paths, classes, config, run, resume, plan.device, progress, report=False)
    return {
        "run": str(run.relative_to(plan.out)),
        "images": result.images,
        "skipped": len(result.skipped),
        "steps": result.steps,
        "left_out_steps": result.left_out_steps,
        "classes": len(classes),
    }


def _train_in_processes(plan: Plan, training: Training, seed: int, root: Path, run: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(plan.processes)]
    settings = [*plan.overrides, *training.overrides, f"train.seed={seed}"]
    command = [sys.executable, *launcher, "-m", "clips4", "train", "--dataset", training.dataset, "--root", str(root)]
    command += ["--split", training.split, *([] if training.fold is None else ["--fold", str(training.fold)])]
    command += ["--preset", plan.preset, "--out", str(run), "--device", plan.device, "--no-report", "--resume"]
    done = subprocess.run([*command, *(part for each in settings for part in ("--set", each))], check=False)
    if done.returncode:
        raise UserError(f"{run}: the training ended with {done.returncode}; its own message is above")


def _score(plan: Plan, scoring: Scoring, seed: int, progress: ProgressReporter) -> Result:
    choice, training = scoring.choice, scoring.training
    root = plan.root(choice.dataset, choice.score)
    run = plan.run(training, seed) if training else None
    if scoring.kind == "figure":
        return _draw(plan, scoring, seed)
    if scoring.kind == "tracking":
        return evaluate_tracking(
            run,
            list(scoring.features),
            choice.dataset,
            root,
            choice.score,
            _TRACKING_SIDE,
            Recipe(),
            plan.device,
            progress,
        )
    if scoring.kind == "unsupervised":
        return evaluate_unsupervised(
            run,
            list(scoring.features),
            list(TASKS),
            choice.dataset,
            root,
            choice.score,
            choice.train,
            _SIDE,
            ClusterRecipe(seed=seed),
            RetrievalRecipe(),
            LinearProbeRecipe(seed=seed),
            None,
            plan.device,
            progress,
        )
    config, teacher, refinement, images = plan.config(training, seed), None, Refinement(), None
    if training is None:
        teacher = config.teacher.name
        # built-in teachers have no attention, and so no keys to smooth by
        refinement = Refinement(prompt_denoising=True, key_smoothing=teacher not in teacher_names())
    else:  # new names find their prototypes where the run was trained, never in the images that are scored
        trained = plan.root(training.dataset, training.split)
        images = training_set(training.dataset, trained, training.split, training.fold)[0]
    return evaluate_by_language(
        run,
        teacher,
        choice.dataset,
        root,
        choice.score,
        plan.protocol,
        scoring.fold,
        None,
        images,
        None,
        plan.device,
        progress,
        refinement,
        config,
    )


def _draw(plan: Plan, scoring: Scoring, seed: int) -> Result:
    """The paper's first figure of one run: text vectors and pixels of teacher and student in one plane."""
    assert scoring.training is not None
    choice, run = scoring.choice, plan.run(scoring.training, seed)
    dataset = SEMANTIC[choice.dataset].load(plan.root(choice.dataset, choice.score), choice.score)
    student = Segmenter.load(run, plan.device, use="student")
    assert student.prototypes is not None
    config, space = plan.config(scoring.training, seed), student.prototypes.space
    name = config.teacher.name
    teacher = calibrated(load_teacher(config.teacher).to(pick_device(plan.device)), space)
    alone = Segmenter.from_teacher(name, config, plan.device, space=space)
    text = text_query(
        teacher, dataset.classes, language_protocol("clips4-v1", choice.dataset, config.teacher.templates)
    )
    of_teacher, of_student, labels, chosen = pixels_by_class(alone, student, dataset)
    names = [dataset.classes.names[index] for index in chosen]
    image = plot_embedding(text.vectors[chosen], of_teacher, of_student, labels, names)
    path = plan.out / FIGURES / f"{scoring.name}-seed-{seed}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, image)
    return {"figure": str(path.relative_to(plan.out)), "pixels": len(labels), "classes": names}
