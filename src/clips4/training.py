"""Training CLIP-S4, from top to bottom: read each picture once with the teacher, find prototypes, then the loop."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from clips4.checkpoints import (
    Prototypes,
    checkpoint_folders,
    load_checkpoint,
    load_optimiser,
    save_checkpoint,
)
from clips4.config import Config, SegmentConfig, TrainConfig
from clips4.data.folders import Skipped, prepare
from clips4.data.loader import ViewStream, batches
from clips4.data.streams import PIXELS, UNKNOWN, seeded
from clips4.devices import pick_device
from clips4.errors import UserError
from clips4.images import RGB
from clips4.interrupts import deferred_interrupt
from clips4.listening import Listener, Silent
from clips4.objective import Terms, objective
from clips4.prototypes import known_prototypes, sample_unknown, teacher_segments, update_unknown
from clips4.regions import RegionCache
from clips4.runlog import LOG, RunLog
from clips4.student.embedder import Embedder, build_student
from clips4.teachers import load_teacher
from clips4.teachers.cache import TeacherMaps
from clips4.vocabulary import ClassList, class_vectors, load_templates


class Interrupted(Exception):
    """Ctrl-C in the loop; the run is saved at ``step``."""

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


@dataclass(frozen=True)
class TrainResult:
    """What a run made.

    Attributes:
        run: its folder.
        steps: the step it stands at.
        pictures: those trained on.
        skipped: those left out, with the reason.
    """

    run: Path
    steps: int
    pictures: list[Path]
    skipped: list[Skipped]


class Prepared(NamedTuple):
    """What the loop needs that is computed once."""

    pictures: list[Path]
    skipped: list[Skipped]
    regions: RegionCache
    teacher_maps: TeacherMaps
    prototypes: Prototypes
    embed_dim: int


def prepare_run(
    paths: Sequence[Path], classes: ClassList, config: Config, device: torch.device, listener: Listener
) -> Prepared:
    """Read each usable picture once: its regions and teacher map into the caches, its segments for the prototypes."""
    teacher = load_teacher(config.teacher.name).to(device)
    text = class_vectors(teacher, classes, load_templates(config.teacher.templates)).cpu()
    regions, teacher_maps = RegionCache(config.regions), TeacherMaps(teacher, device)
    segments: list[Tensor] = []

    def visit(path: Path, image: RGB) -> None:
        segments.append(picture_segments(teacher_maps(image), torch.from_numpy(regions(image, path)), config.segments))
        listener.advance({})

    listener.stage("reading pictures", len(paths))
    pictures, skipped = prepare(paths, config.data.long_side, visit)
    vectors = torch.cat(segments)
    known = known_prototypes(text, vectors, config.prototypes.m)
    prototypes = Prototypes(
        classes=classes,
        text=text,
        known=known,
        unknown=sample_unknown(
            vectors,
            config.prototypes.unknown,
            seeded(config.train.seed, UNKNOWN),
            known,
            config.prototypes.unknown_share,
        ),
    )
    return Prepared(pictures, skipped, regions, teacher_maps, prototypes, teacher.embed_dim)


def picture_segments(pixel_map: Tensor, regions: Tensor, config: SegmentConfig) -> Tensor:
    """The teacher segments (S, D) of one picture, its (H, W) regions brought to the map's (D, h, w) resolution."""
    pixel_map = F.normalize(pixel_map.float(), dim=0)
    at_map = F.interpolate(regions[None, None].double(), pixel_map.shape[1:], mode="nearest-exact")[0, 0].long()
    return teacher_segments(pixel_map, at_map, config.clusters, config.iterations, config.location_weight)


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then polynomial decay, as a factor of the base rates."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    return warm * (1 - step / config.steps) ** config.power


def build_optimiser(student: Embedder, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a rate for the backbone and one for the head."""
    groups = [
        {"params": list(student.backbone.parameters()), "lr": config.backbone_rate, "base_rate": config.backbone_rate},
        {"params": list(student.head.parameters()), "lr": config.rate, "base_rate": config.rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def train(
    paths: Sequence[Path],
    classes: ClassList,
    config: Config,
    run: Path,
    resume: bool = False,
    device: str = "auto",
    listener: Listener | None = None,
) -> TrainResult:
    """Train a student on unlabelled pictures.

    Args:
        paths: picture files; broken ones are skipped and reported in the result.
        classes: the known classes.
        config: everything else.
        run: folder to write checkpoints and ``log.jsonl`` to.
        resume: go on from the newest checkpoint of ``run``; the result is the same as without the interruption.
        device: "auto", "cpu", "cuda" or "mps".
        listener: is told of each stage and step.

    Raises:
        UserError: nothing to train on, a run in the way, or a configuration other than the one resumed.
        Interrupted: Ctrl-C in the loop, after saving.
    """
    listener = listener or Silent()
    if run.exists() and not run.is_dir():
        raise UserError(f"{run}: is a file; give a folder for the run")
    if checkpoint_folders(run) and not resume:
        raise UserError(f"{run}: there is a run already; go on with --resume, or give another --out")
    if config.data.crop % config.student.stride:
        raise UserError(f"data.crop = {config.data.crop} is not a multiple of student.stride = {config.student.stride}")
    where = pick_device(device)
    devices = 1 if where.index is None else [where.index]
    fabric = Fabric(accelerator=where.type, devices=devices, precision=config.train.precision)

    torch.manual_seed(config.train.seed)
    prepared = prepare_run(paths, classes, config, fabric.device, listener)
    student, prototypes, first_step = build_student(config.student, prepared.embed_dim), prepared.prototypes, 0
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # depthwise convolutions are a third faster so
    optimiser = build_optimiser(student, config.train)
    if resume and checkpoint_folders(run):
        checkpoint = load_checkpoint(run)
        if checkpoint.config != config or checkpoint.prototypes.classes != classes:
            raise UserError(f"{run}: was begun with other settings or classes; give the same, or another --out")
        student.load_state_dict(checkpoint.student.state_dict())
        load_optimiser(checkpoint, optimiser)
        prototypes, first_step = checkpoint.prototypes, checkpoint.step
    model, optimiser_on_device = fabric.setup(student, optimiser)
    known, unknown = fabric.to_device(prototypes.known), fabric.to_device(prototypes.unknown)

    def save(step: int) -> None:
        current = replace(prototypes, unknown=unknown.cpu())
        save_checkpoint(run, step, config, student, current, optimiser, config.train.keep)

    stream = ViewStream(
        prepared.pictures, prepared.regions, prepared.teacher_maps, config.data, student.stride, config.train.seed
    )
    listener.stage("training", config.train.steps - first_step)
    run.mkdir(parents=True, exist_ok=True)
    step = first_step
    started = time.perf_counter()
    model.train()
    with RunLog(run / LOG, first_step) as write_log, deferred_interrupt() as interrupted:
        for batch in batches(stream, config.train.batch, first_step, config.train.steps, config.data.workers):
            images, regions, pixel_map = (fabric.to_device(part) for part in batch)
            factor = learning_rate_factor(step, config.train)
            for group in optimiser.param_groups:
                group["lr"] = factor * group["base_rate"]

            z = model(images)
            prototypes_now, pixels = torch.cat([known, unknown]), seeded(config.train.seed, PIXELS, step)
            terms = objective(z, regions, pixel_map, prototypes_now, config.objective, config.segments, pixels)
            values = _named(terms)
            if not math.isfinite(values["loss"]):
                raise UserError(f"step {step}: the loss is {values['loss']}; lower train.rate or train.backbone_rate")
            fabric.backward(terms.total)
            fabric.clip_gradients(model, optimiser_on_device, max_norm=config.train.clip)
            optimiser_on_device.step()
            optimiser_on_device.zero_grad()
            unknown = update_unknown(unknown, known, terms.guidance, config.prototypes.step)

            step += 1
            now = time.perf_counter()
            write_log({"step": step, "seconds": round(now - started, 4), "rate_factor": factor, **values})
            started = now
            listener.advance(values)
            if interrupted() or step % config.train.save_every == 0 or step == config.train.steps:
                save(step)
            if interrupted():
                raise Interrupted(step)
    return TrainResult(run, step, prepared.pictures, prepared.skipped)


def _named(terms: Terms) -> dict[str, float]:
    """The losses by name, with one transfer from the device."""
    parts = torch.stack([terms.total, terms.contrast, terms.embedding, terms.semantic]).detach().tolist()
    return dict(zip(("loss", "contrast", "embedding", "semantic"), parts, strict=True))
