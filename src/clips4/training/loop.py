"""Training CLIP-S4, from top to bottom: read each picture once with the teacher, find prototypes, then the loop."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from clips4.config import Config
from clips4.data.class_names import ClassList
from clips4.data.image_folder import SkippedImage
from clips4.data.image_source import open_source
from clips4.data.loader import ItemMaker, training_batches
from clips4.data.rng import STEP, seeded
from clips4.errors import UserError
from clips4.method.objective import Terms, objective
from clips4.method.prototypes import update_unknown
from clips4.models.checkpoint import Prototypes, checkpoint_folders, clear_leftovers, load_checkpoint
from clips4.models.student import Embedder, build_student
from clips4.models.teachers.base import load_teacher, pinned
from clips4.models.teachers.prompts import load_templates
from clips4.models.teachers.text_cache import cached_class_vectors
from clips4.regions.cache import RegionCache
from clips4.training.log import LOG, RunLog
from clips4.training.optim import build_optimizer, set_rates
from clips4.training.precompute import prepare
from clips4.training.prototype_fitting import fit_to_student
from clips4.training.stall_monitor import warn_on_stall
from clips4.training.state import RunState, check_resumable, run_facts
from clips4.training.teacher_cache import plan_teacher_maps
from clips4.utils import distributed
from clips4.utils.devices import make_fabric
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.progress import NoProgress, ProgressReporter


class Interrupted(Exception):
    """Ctrl-C in the loop; the run is saved at ``step``."""

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


class Callback(Protocol):
    """Looks at the student while it is trained."""

    def __call__(self, step: int, student: Embedder, prototypes: Prototypes) -> dict[str, float]:
        """Write sample pictures, or score; figures returned go to the log. The student is in eval mode."""


@dataclass(frozen=True)
class TrainResult:
    """What a run made.

    Attributes:
        run: its folder.
        steps: the step it stands at.
        images: how many are trained on.
        skipped: those left out, with the reason.
        left_out_steps: steps whose loss or gradient was not finite.
    """

    run: Path
    steps: int
    images: int
    skipped: list[SkippedImage]
    left_out_steps: int = 0


def train(
    paths: Sequence[Path],
    classes: ClassList,
    config: Config,
    run: Path,
    resume: bool = False,
    device: str = "auto",
    progress: ProgressReporter | None = None,
    callback: Callback | None = None,
) -> TrainResult:
    """Train a student on unlabelled pictures.

    Started by torchrun or Slurm it is one rank of several, each with ``train.batch`` pictures; n ranks of batch B train
    as one of batch n * B does.

    Args:
        paths: image files or tar shards, as ``find_training_images`` finds them; broken images are skipped and
            listed in the result.
        classes: the known classes.
        config: everything else.
        run: folder to write checkpoints and ``log.jsonl`` to.
        resume: go on from the newest checkpoint of ``run``; the result is the same as without the interruption.
        device: "auto", "cpu", "cuda" or "mps".
        progress: is told of each stage and step.
        callback: is shown the student every ``train.eval_every`` steps.

    Raises:
        UserError: nothing to train on, a run in the way, or a configuration other than the one resumed.
        Interrupted: Ctrl-C in the loop, after saving.
    """
    if run.exists() and not run.is_dir():
        raise UserError(f"{run}: is a file; give a folder for the run")
    if checkpoint_folders(run) and not resume:
        raise UserError(f"{run}: there is a run already; go on with --resume, or give another --out")
    if config.data.crop % config.student.stride:
        raise UserError(f"data.crop = {config.data.crop} is not a multiple of student.stride = {config.student.stride}")
    source = open_source(paths)
    fabric = make_fabric(device, config.train.precision)
    rank, world = distributed.rank(), distributed.world_size()
    progress = progress if progress and rank == 0 else NoProgress()
    if rank == 0:
        clear_leftovers(run)

    # what is trained, and what guides it
    torch.manual_seed(config.train.seed)
    checkpoint = load_checkpoint(run, resuming=True, log=progress.log) if resume and checkpoint_folders(run) else None
    teacher_settings = pinned(config.teacher, checkpoint.config.teacher) if checkpoint else config.teacher
    teacher = load_teacher(teacher_settings).to(fabric.device)
    # the run remembers which weights it learnt from: a commit of the hub, or a folder's whole path
    config = config.model_copy(update={"teacher": teacher_settings.model_copy(update={"name": teacher.name})})
    student = checkpoint.student if checkpoint else build_student(config.student, teacher.embed_dim)
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # depthwise convolutions run faster so
    text = cached_class_vectors(teacher, classes, load_templates(config.teacher.templates))
    teacher_maps = plan_teacher_maps(teacher, source, text, config, fabric.device, progress)
    regions = RegionCache(config.regions)
    facts = run_facts(source, config, world)
    if checkpoint:  # before anything of the run is written anew
        check_resumable(checkpoint, config, classes, facts, run)
    prepared = prepare(source, classes, config, text, regions, teacher_maps, run, progress)

    # where it stands
    averaged = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(config.train.ema)) if config.train.ema else None
    if averaged:
        averaged.to(fabric.device)
    model, optimizer = fabric.setup(student, build_optimizer(student, config.train))
    state = RunState(
        student,
        optimizer.optimizer,
        averaged,
        getattr(fabric.strategy.precision, "scaler", None),
        prepared.prototypes,
        fabric.to_device(prepared.prototypes.unknown),
    )
    if checkpoint:
        state.restore(checkpoint)
    known, words = fabric.to_device(state.prototypes.known), fabric.to_device(text)
    scaled = state.scaler is not None  # the scaler lowers its scale by looking at gradients that are not finite

    # the loop
    progress.stage("training", config.train.steps - state.step)
    run.mkdir(parents=True, exist_ok=True)
    drawn = -(-config.objective.contrast_pixels // (config.train.batch * world))
    kept = teacher_maps if teacher_maps.keep else None
    make_item = ItemMaker(regions, kept, config.data, student.stride, config.train.seed, drawn)
    read = None if teacher_maps.keep else teacher_maps.compute
    pin = fabric.device.type == "cuda"
    feed = warn_on_stall(
        training_batches(source, prepared.skipped, make_item, config, state.step, rank, world, pin, read),
        config.train.stall_timeout,
        lambda seconds: progress.log(f"waiting for the pictures of step {state.step + 1} since {seconds:.0f} s"),
    )
    started = time.perf_counter()
    model.train()
    with RunLog(run / LOG, state.step, rank == 0) as write_log, deferred_interrupt() as interrupted:
        while state.step < config.train.steps:
            torch.manual_seed(seeded(config.train.seed, STEP, state.step).initial_seed())
            factor = set_rates(state.optimizer, state.step, config.train)
            prototypes = torch.cat([known, state.unknown])
            terms: list[Terms] = []
            names: list[str] = []
            for part in range(config.train.accumulate):
                batch = next(feed)
                names += batch.names
                images, at_regions, pixel_map, chosen = (fabric.to_device(tensor) for tensor in batch[:4])
                with fabric.no_backward_sync(model, enabled=part + 1 < config.train.accumulate):
                    z = model(images)
                    terms.append(
                        objective(
                            z,
                            at_regions,
                            pixel_map,
                            prototypes,
                            config.objective,
                            config.segments,
                            chosen,
                            progress=state.step / config.train.steps,
                            text=words,
                            extensions=config.extensions,
                        )
                    )
                    fabric.backward(terms[-1].total / config.train.accumulate)
            norm = fabric.clip_gradients(
                model, optimizer, max_norm=config.train.max_grad_norm, error_if_nonfinite=False
            )
            values = _read_values(terms, norm, interrupted())
            stop, finite = values.pop("interrupted") > 0, all(map(math.isfinite, values.values()))
            if finite or scaled:
                optimizer.step()
            if finite:
                guidance = torch.cat([t.guidance for t in terms])
                state.unknown = update_unknown(state.unknown, known, guidance, config.prototypes.unknown_step)
                if state.averaged:
                    state.averaged.update_parameters(student)
            optimizer.zero_grad()
            state.step += 1
            state.left_out += not finite
            state.failures = 0 if finite or (scaled and math.isfinite(values["loss"])) else state.failures + 1
            if state.failures:
                problem = _problem(state, values, names)
                if state.failures >= config.train.max_nonfinite_steps:
                    raise UserError(problem)
                progress.log(problem)

            now = time.perf_counter()
            line = {"step": state.step, "seconds": round(now - started, 4), "rate_factor": factor, **values}
            started = now
            if callback and config.train.eval_every and state.step % config.train.eval_every == 0:
                line |= _run_callback(callback, state)
            write_log(line)
            progress.advance({name: values[name] for name in ("loss", "contrast", "embedding", "semantic")})
            if state.step == config.train.steps:
                state.prototypes = fit_to_student(
                    state.current_prototypes(),
                    state.result,
                    source,
                    config,
                    regions,
                    teacher_maps,
                    fabric.device,
                    progress,
                )
            stop = interrupted() if world == 1 else stop  # several ranks have to agree, and have, within the step
            if rank == 0 and (stop or state.step % config.train.save_every == 0 or state.step == config.train.steps):
                state.save(run, config, facts)
            if stop:
                raise Interrupted(state.step)
    return TrainResult(run, state.step, prepared.images, list(prepared.skipped.values()), state.left_out)


def _read_values(terms: Sequence[Terms], norm: Tensor | None, interrupted: bool) -> dict[str, float]:
    """The losses by name over all batches and ranks, in one transfer from the device."""
    parts = torch.stack([torch.stack([t.total, t.contrast, t.embedding, t.semantic]) for t in terms]).detach().mean(0)
    assert norm is not None
    own = torch.cat([parts, norm.to(parts)[None], parts.new_tensor([float(interrupted)])])
    values = (distributed.total(own) / distributed.world_size()).tolist()
    return dict(zip(("loss", "contrast", "embedding", "semantic", "norm", "interrupted"), values, strict=True))


def _run_callback(callback: Callback, state: RunState) -> dict[str, float]:
    """Show the student in eval mode; only the first rank looks."""
    if distributed.rank():
        return {}
    student = state.result
    training = student.training
    student.eval()
    with torch.no_grad():
        figures = callback(state.step, student, state.current_prototypes())
    student.train(training)
    return figures


def _problem(state: RunState, values: dict[str, float], names: Sequence[str]) -> str:
    what = "the loss" if not math.isfinite(values["loss"]) else "the gradient"
    return (
        f"step {state.step}: {what} was not finite, {state.failures} times in a row; the step is left out. If it "
        f"happens again, lower train.lr or train.backbone_lr, or look at these pictures: {', '.join(names)}"
    )
