"""Training CLIP-S4, from top to bottom: read each picture once with the teacher, find prototypes, then the loop."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from clips4 import ranks
from clips4.checkpoints import (
    Checkpoint,
    Prototypes,
    checkpoint_folders,
    clear_leftovers,
    load_checkpoint,
    load_state,
    save_checkpoint,
)
from clips4.config import Config, TrainConfig
from clips4.data.folders import Skipped
from clips4.data.loader import Batch, ItemMaker, Positions, ShardStream, ViewStream, batches
from clips4.data.sources import PictureFiles, PictureShards, Source, open_source
from clips4.data.streams import STEP, seeded
from clips4.devices import make_fabric
from clips4.errors import UserError
from clips4.interrupts import deferred_interrupt
from clips4.listening import Listener, Silent
from clips4.objective import Terms, objective
from clips4.preparation import Prepared, prepare
from clips4.prototypes import update_unknown
from clips4.regions import RegionCache
from clips4.runlog import LOG, RunLog
from clips4.stalls import told_of_stalls
from clips4.student.embedder import Embedder, build_student
from clips4.teachers import load_teacher
from clips4.teachers.cache import TeacherMaps
from clips4.vocabulary import ClassList


class Interrupted(Exception):
    """Ctrl-C in the loop; the run is saved at ``step``."""

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


class Watcher(Protocol):
    """Looks at the student while it is trained."""

    def __call__(self, step: int, student: Embedder, prototypes: Prototypes) -> dict[str, float]:
        """Write sample pictures, or score; figures returned go to the log. The student is in eval mode."""


@dataclass(frozen=True)
class TrainResult:
    """What a run made.

    Attributes:
        run: its folder.
        steps: the step it stands at.
        pictures: how many are trained on.
        skipped: those left out, with the reason.
        left_out_steps: steps whose loss or gradient was not finite.
    """

    run: Path
    steps: int
    pictures: int
    skipped: list[Skipped]
    left_out_steps: int = 0


def train(
    paths: Sequence[Path],
    classes: ClassList,
    config: Config,
    run: Path,
    resume: bool = False,
    device: str = "auto",
    listener: Listener | None = None,
    watcher: Watcher | None = None,
) -> TrainResult:
    """Train a student on unlabelled pictures.

    Started by torchrun or Slurm it is one rank of several, each with ``train.batch`` pictures; n ranks of batch B train
    as one of batch n * B does.

    Args:
        paths: picture files, or tar shards, as ``data.sources.find_pictures`` finds them; broken pictures are skipped and
            reported in the result.
        classes: the known classes.
        config: everything else.
        run: folder to write checkpoints and ``log.jsonl`` to.
        resume: go on from the newest checkpoint of ``run``; the result is the same as without the interruption.
        device: "auto", "cpu", "cuda" or "mps".
        listener: is told of each stage and step.
        watcher: is shown the student every ``train.watch_every`` steps.

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
    rank, world = ranks.rank(), ranks.world_size()
    listener = listener if listener and rank == 0 else Silent()
    if rank == 0:
        clear_leftovers(run)

    # what is trained, and what guides it
    torch.manual_seed(config.train.seed)
    checkpoint = load_checkpoint(run, resuming=True, say=listener.say) if resume and checkpoint_folders(run) else None
    teacher = load_teacher(config.teacher.name).to(fabric.device)
    student = checkpoint.student if checkpoint else build_student(config.student, teacher.embed_dim)
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # depthwise convolutions are a third faster so
    regions, teacher_maps = RegionCache(config.regions), TeacherMaps(teacher, fabric.device)
    prepared = prepare(source, classes, config, teacher, regions, teacher_maps, run, listener)
    optimiser = build_optimiser(student, config.train)
    averaged = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(config.train.ema)) if config.train.ema else None
    prototypes, step, failures, left_out = prepared.prototypes, 0, 0, 0
    facts = run_facts(source, config, world)
    if checkpoint:
        _check_resumable(checkpoint, config, classes, facts, run)
        state = load_state(checkpoint)
        prototypes, step, failures, left_out = (
            checkpoint.prototypes,
            checkpoint.step,
            state["failures"],
            state["left_out"],
        )
        if state["student"]:  # the checkpoint's own are the moving average
            student.load_state_dict(state["student"])
        optimiser.load_state_dict(state["optimiser"])
        if averaged:
            averaged.load_state_dict(state["averaged"])
        if state["scaler"]:
            fabric.strategy.precision.scaler.load_state_dict(state["scaler"])  # type: ignore[attr-defined]
    model, fabric_optimiser = fabric.setup(student, optimiser)
    if averaged:
        averaged.to(fabric.device)
    known, unknown = fabric.to_device(prototypes.known), fabric.to_device(prototypes.unknown)
    saved_student = averaged.module if averaged else student

    def save() -> None:
        if rank == 0:
            state = {
                "optimiser": optimiser.state_dict(),
                "student": student.state_dict() if averaged else None,
                "averaged": averaged.state_dict() if averaged else None,
                "scaler": _scaler_state(fabric),
                "failures": failures,
                "left_out": left_out,
            }
            now = replace(prototypes, unknown=unknown.cpu())
            save_checkpoint(run, step, config, saved_student, now, state, config.train.keep, facts)

    # the loop
    listener.stage("training", config.train.steps - step)
    run.mkdir(parents=True, exist_ok=True)
    drawn = -(-config.objective.contrast_pixels // (config.train.batch * world))
    make_item = ItemMaker(regions, teacher_maps, config.data, student.stride, config.train.seed, drawn)
    feed = told_of_stalls(
        training_batches(source, prepared, make_item, config, step, rank, world, pin=fabric.device.type == "cuda"),
        config.train.stall,
        lambda seconds: listener.say(f"waiting for the pictures of step {step + 1} since {seconds:.0f} s"),
    )
    started = time.perf_counter()
    model.train()
    with RunLog(run / LOG, step, rank == 0) as write_log, deferred_interrupt() as interrupted:
        while step < config.train.steps:
            torch.manual_seed(seeded(config.train.seed, STEP, step).initial_seed())
            factor = set_rates(optimiser, step, config.train)
            terms, names = [], []
            for part in range(config.train.accumulate):
                batch = next(feed)
                images, region_maps, pixel_map, chosen = (fabric.to_device(tensor) for tensor in batch[:4])
                with fabric.no_backward_sync(model, enabled=part + 1 < config.train.accumulate):
                    z = model(images)
                    terms.append(
                        objective(
                            z,
                            region_maps,
                            pixel_map,
                            torch.cat([known, unknown]),
                            config.objective,
                            config.segments,
                            chosen,
                        )
                    )
                    fabric.backward(terms[-1].total / config.train.accumulate)
                names += batch.names
            norm = fabric.clip_gradients(model, fabric_optimiser, max_norm=config.train.clip, error_if_nonfinite=False)
            values = _read_values(terms, norm, interrupted())
            stop, finite = values.pop("interrupted") > 0, all(map(math.isfinite, values.values()))
            scaled = (
                config.train.precision == "16-mixed"
            )  # its scaler lowers the scale by looking at bad gradients itself
            if finite or scaled:
                fabric_optimiser.step()
            if finite:
                unknown = update_unknown(unknown, known, torch.cat([t.guidance for t in terms]), config.prototypes.step)
                if averaged:
                    averaged.update_parameters(student)
            fabric_optimiser.zero_grad()
            step += 1
            failures = 0 if finite or (scaled and math.isfinite(values["loss"])) else failures + 1
            left_out += not finite
            if failures >= config.train.patience:
                raise UserError(_hopeless(step, values, failures, names))
            if failures:
                listener.say(
                    f"step {step} left out: the loss is {values['loss']}, the gradient's norm {values['norm']}"
                )

            now = time.perf_counter()
            line = {"step": step, "seconds": round(now - started, 4), "rate_factor": factor, **values}
            started = now
            if watcher and config.train.watch_every and step % config.train.watch_every == 0:
                line |= _watch(watcher, step, saved_student, replace(prototypes, unknown=unknown.cpu()))
            write_log(line)
            listener.advance({name: values[name] for name in ("loss", "contrast", "embedding", "semantic")})
            stop = interrupted() if world == 1 else stop  # several ranks have to agree, and have, within the step
            if stop or step % config.train.save_every == 0 or step == config.train.steps:
                save()
            if stop:
                raise Interrupted(step)
    return TrainResult(run, step, prepared.pictures, list(prepared.skipped.values()), left_out)


def training_batches(
    source: Source,
    prepared: Prepared,
    make_item: ItemMaker,
    config: Config,
    first_step: int,
    rank: int,
    world: int,
    pin: bool,
) -> Iterator[Batch]:
    """The batches of a rank from a step on: ``train.accumulate`` for each step."""
    batch, parts, workers = config.train.batch, config.train.accumulate, config.data.workers
    if isinstance(source, PictureShards):
        shards = ShardStream(source.shards, make_item, batch, first_step * parts, rank, world)
        return batches(shards, None, batch, workers, pin)
    assert isinstance(source, PictureFiles)
    usable = [path for number, path in enumerate(source.paths) if number not in prepared.skipped]
    places = Positions(range(first_step, config.train.steps), parts, batch, rank, world)
    return batches(ViewStream(usable, make_item), places, batch, workers, pin)


def run_facts(source: Source, config: Config, world: int) -> dict[str, Any]:
    """What weights depend on besides configuration and classes, for the checkpoint's card."""
    streams = isinstance(source, PictureShards)
    return {
        "pictures": source.digest,
        "pictures_per_step": config.train.batch * config.train.accumulate * world,
        # shards are dealt to their readers, so that their number decides the order
        "readers": world * max(1, config.data.workers) if streams else None,
    }


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then polynomial decay, as a factor of the base rates."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    return warm * (1 - step / config.steps) ** config.power


def set_rates(optimiser: torch.optim.Optimizer, step: int, config: TrainConfig) -> float:
    """Set the rates of a step; returns their factor."""
    factor = learning_rate_factor(step, config)
    for group in optimiser.param_groups:
        group["lr"] = factor * group["base_rate"]
    return factor


def build_optimiser(student: Embedder, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a rate for the backbone and one for the head; what is frozen stays out."""
    groups = [(student.backbone, config.backbone_rate), (student.head, config.rate)]
    trained = [([p for p in module.parameters() if p.requires_grad], rate) for module, rate in groups]
    return torch.optim.AdamW(
        [{"params": parameters, "lr": rate, "base_rate": rate} for parameters, rate in trained if parameters],
        weight_decay=config.weight_decay,
    )


def _check_resumable(
    checkpoint: Checkpoint, config: Config, classes: ClassList, facts: dict[str, Any], run: Path
) -> None:
    if checkpoint.config.decisive() != config.decisive() or checkpoint.prototypes.classes != classes:
        raise UserError(f"{run}: was begun with other settings or classes; give the same, or another --out")
    if checkpoint.card.get("pictures") != facts["pictures"]:
        raise UserError(f"{run}: was begun with other pictures; give the same, or another --out")
    before = checkpoint.card.get("pictures_per_step")
    if before != facts["pictures_per_step"]:
        raise UserError(
            f"{run}: was begun with {before} pictures per step (train.batch times train.accumulate times processes), "
            f"now it is {facts['pictures_per_step']}; set train.batch so that it is the same"
        )
    if checkpoint.card.get("readers") != facts["readers"]:
        raise UserError(
            f"{run}: was begun with {checkpoint.card.get('readers')} readers of shards (processes times data.workers), now "
            f"they are {facts['readers']}; set data.workers so that they are the same"
        )


def _scaler_state(fabric: Fabric) -> dict[str, Any] | None:
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    return scaler.state_dict() if scaler else None


def _read_values(terms: Sequence[Terms], norm: Tensor | None, interrupted: bool) -> dict[str, float]:
    """The losses by name over all batches and ranks, in one transfer from the device."""
    parts = torch.stack([torch.stack([t.total, t.contrast, t.embedding, t.semantic]) for t in terms]).detach().mean(0)
    assert norm is not None
    own = torch.cat([parts, norm.to(parts)[None], parts.new_tensor([float(interrupted)])])
    values = (ranks.total(own) / ranks.world_size()).tolist()
    return dict(zip(("loss", "contrast", "embedding", "semantic", "norm", "interrupted"), values, strict=True))


def _watch(watcher: Watcher, step: int, student: Embedder, prototypes: Prototypes) -> dict[str, float]:
    """Show the student in eval mode; only the first rank looks."""
    if ranks.rank():
        return {}
    training = student.training
    student.eval()
    with torch.no_grad():
        figures = watcher(step, student, prototypes)
    student.train(training)
    return figures


def _hopeless(step: int, values: dict[str, float], failures: int, names: Sequence[str]) -> str:
    what = "the loss" if not math.isfinite(values["loss"]) else "the gradient"
    return (
        f"step {step}: {what} was not finite {failures} times in a row; lower train.rate or train.backbone_rate, or look "
        f"at these pictures: {', '.join(names)}"
    )
