"""What a run needs before its first step: teacher, student, class prototypes and the stream of batches."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from clips4.config import Config
from clips4.data.class_names import ClassList
from clips4.data.image_folder import SkippedImage
from clips4.data.image_source import Source, open_source
from clips4.data.loader import Batch, training_batches
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.data.views import ItemMaker
from clips4.errors import UserError
from clips4.method.labeled_prototypes import labeled_prototypes, with_labeled
from clips4.models.backbones.dino_vit import DinoViT
from clips4.models.calibrated_teacher import calibrated
from clips4.models.checkpoint import checkpoint_folders, load_checkpoint
from clips4.models.residual_student import ResidualStudent, build_residual_student
from clips4.models.student import Embedder, build_student
from clips4.models.teachers.base import Teacher, load_teacher, pinned
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.models.teachers.text.prompts import load_templates
from clips4.models.teachers.text.text_cache import cached_class_vectors, warn_of_unknown_terms
from clips4.regions.cache import RegionCache
from clips4.regions.contours import check_edge_files
from clips4.training.optim import build_optimizer
from clips4.training.precompute import prepare
from clips4.training.quality.held_out import split_held_out
from clips4.training.space import estimate_space
from clips4.training.stall_monitor import warn_on_stall
from clips4.training.state import RunState, check_resumable, run_facts
from clips4.training.teacher_cache import plan_teacher_maps
from clips4.utils import distributed
from clips4.utils.atomic_io import lock_folder, remove_leftovers
from clips4.utils.cache import cache_root
from clips4.utils.compilation import compile_network
from clips4.utils.devices import make_fabric
from clips4.utils.images import reduce_to
from clips4.utils.progress import NoProgress, ProgressReporter

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_DAY = 86400.0  # seconds; other trainings may be writing to the cache


@dataclass(frozen=True)
class Run:
    """A run that is ready to train.

    Attributes:
        folder: of the run.
        config: of the run; ``teacher.name`` is pinned to the weights that were loaded.
        source: the training images.
        held_out: images kept out of training for the quality report.
        images: how many of them are usable.
        skipped: the others, by their numbers in the source.
        facts: what weights depend on besides the configuration, for the checkpoint's card.
        fabric: device, precision and ranks.
        rank, world: this process's rank and the number of ranks.
        model, optimizer: the student and its optimizer as Fabric wraps them.
        teacher: in the space of the run.
        state: what changes from step to step.
        known: (K, D) c_0..c_{K-1}, or (K * m, D), on the device.
        text: (K, D) text vectors of the known classes, on the device.
        regions: region maps by image.
        teacher_maps: the teacher's pixel maps by image.
        labels: labeled images whose pixels are the prototypes of their classes; None for none.
        progress: of the first rank; silent on others.
    """

    folder: Path
    config: Config
    source: Source
    held_out: list[Path]
    images: int
    skipped: dict[int, SkippedImage]
    facts: dict[str, Any]
    fabric: "Fabric"
    rank: int
    world: int
    model: Any
    optimizer: Any
    teacher: Teacher
    state: RunState
    known: Tensor
    text: Tensor
    regions: RegionCache
    teacher_maps: TeacherMaps
    labels: LabeledFolder | None
    progress: ProgressReporter


def set_up(
    paths: Sequence[Path],
    classes: ClassList,
    config: Config,
    folder: Path,
    resume: bool,
    device: str,
    progress: ProgressReporter | None,
    stack: ExitStack,
    teacher: Teacher | None = None,
    labels: LabeledFolder | None = None,
) -> Run:
    """Load or build what the loop needs, closed by ``stack``; see ``loop.train`` for arguments and errors."""
    paths, held_out = split_held_out(paths, config.train.holdout)
    source = open_source(paths)
    fabric = make_fabric(device, config.train.precision)
    rank, world = distributed.rank(), distributed.world_size()
    progress = progress if progress and rank == 0 else NoProgress()
    if rank == 0:
        stack.enter_context(lock_folder(folder))
        remove_leftovers(cache_root(), age=_DAY)
    _check_arguments(folder, config, resume)
    if labels is not None and config.objective.mode != "clips4":
        raise UserError(f"labeled images make prototypes, which objective.mode={config.objective.mode} does not have")

    torch.manual_seed(config.train.seed)
    checkpoint = None
    if resume and checkpoint_folders(folder):
        checkpoint = load_checkpoint(folder, resuming=True, log=progress.log)
    settings = pinned(config.teacher, checkpoint.config.teacher) if checkpoint else config.teacher
    teacher = (teacher or load_teacher(settings)).to(fabric.device)
    # the run records the exact weights: a commit of the hub, or a folder's absolute path
    config = config.model_copy(update={"teacher": settings.model_copy(update={"name": teacher.name})})
    student = checkpoint.student if checkpoint else _new_student(config, teacher)
    if config.train.gradient_checkpointing:
        if not isinstance(student.backbone, DinoViT):
            raise UserError("train.gradient_checkpointing is for student.backbone=dino; leave it out")
        student.backbone.recompute()
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster depthwise convolutions

    if rank == 0:
        warn_of_unknown_terms(teacher, classes)
    templates = load_templates(config.teacher.templates)
    raw_text = cached_class_vectors(teacher, classes, templates)
    raw_maps = plan_teacher_maps(teacher, source, raw_text, config, fabric.device, progress)
    regions = RegionCache(config.regions)
    if config.regions.edges is not None:
        check_edge_files(Path(config.regions.edges).expanduser(), paths, config.regions.method)
    facts = run_facts(source, config, world, labels)
    if checkpoint:  # before any file of the run is overwritten
        check_resumable(checkpoint, config, classes, facts, folder)
    space = checkpoint.prototypes.space if checkpoint else None
    # MaskCLIP+ is a baseline, and stays in the raw space
    if checkpoint is None and config.teacher.calibrate and config.objective.mode == "clips4":
        side, share = config.data.long_side, config.extensions.reference_share
        space = estimate_space(teacher, config.teacher, source, raw_maps, side, share, fabric.device, progress)
    if space is not None and isinstance(student, ResidualStudent):
        student.pixel_offset = space.pixel_offset
    teacher = calibrated(teacher, space)
    text = cached_class_vectors(teacher, classes, templates)
    teacher_maps = raw_maps.in_space(space)
    prepared = prepare(source, classes, config, text, regions, teacher_maps, folder, progress, space)
    initial = prepared.prototypes
    if labels is not None and checkpoint is None:
        found = labeled_prototypes(
            lambda image: teacher_maps(reduce_to(image, config.data.long_side)), labels, progress
        )
        initial = replace(initial, known=with_labeled(initial.known, found, initial.rows_per_class))

    averaged = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(config.train.ema)) if config.train.ema else None
    if averaged:
        averaged.to(fabric.device)
    network = compiled_student(student, config, fabric, progress) if config.train.compile else student
    model, optimizer = fabric.setup(network, build_optimizer(student, config.train))
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    unknown = fabric.to_device(initial.unknown)
    state = RunState(student, optimizer.optimizer, averaged, scaler, initial, unknown)
    if checkpoint:
        state.restore(checkpoint)
    return Run(
        folder=folder,
        config=config,
        source=source,
        held_out=held_out,
        images=prepared.images,
        skipped=prepared.skipped,
        facts=facts,
        fabric=fabric,
        rank=rank,
        world=world,
        model=model,
        optimizer=optimizer,
        teacher=teacher,
        state=state,
        known=fabric.to_device(state.prototypes.known),
        text=fabric.to_device(text),
        regions=regions,
        teacher_maps=teacher_maps,
        labels=labels,
        progress=progress,
    )


def _new_student(config: Config, teacher: Teacher) -> Embedder:
    if config.extensions.residual:
        student: Embedder = build_residual_student(config, teacher)
    else:
        student = build_student(config.student, teacher.embed_dim)
    if config.train.start_from is not None:
        before = load_checkpoint(Path(config.train.start_from).expanduser()).student
        try:
            student.load_state_dict(before.state_dict())
        except RuntimeError:
            raise UserError(
                f"train.start_from = {config.train.start_from}: has another network; give the same backbone, stride, "
                "width and teacher"
            )
    return student


def compiled_student(student: Embedder, config: Config, fabric: "Fabric", progress: ProgressReporter) -> nn.Module:
    """The student compiled for the two views of a batch; its parameters stay those of ``student``."""
    progress.stage("compiling the student", 1)
    how = "always" if isinstance(config.train.compile, bool) else config.train.compile
    shape = (2 * config.train.batch, 3, config.data.crop, config.data.crop)
    with fabric.autocast():
        compiled = compile_network(student.to(fabric.device), torch.zeros(shape, device=fabric.device), how)
    progress.log(compiled.note)
    progress.advance({})
    return compiled.network


def _check_arguments(folder: Path, config: Config, resume: bool) -> None:
    if checkpoint_folders(folder) and not resume:
        raise UserError(f"{folder}: already holds a run; resume it, or give another folder")
    if config.data.crop % config.student.stride:
        raise UserError(f"data.crop = {config.data.crop} is not a multiple of student.stride = {config.student.stride}")


def open_batches(run: Run) -> Generator[Batch, None, None]:
    """The batches of this rank from the next step on, with a warning while one takes too long; close it at the end."""
    config, maps = run.config, run.teacher_maps
    contrast_pixels = -(-config.objective.contrast_pixels // (config.train.batch * run.world))  # of each image
    make_item = ItemMaker(
        run.regions,
        maps if maps.keep else None,
        config.data,
        config.student.stride,
        config.train.seed,
        contrast_pixels,
    )
    batches = training_batches(
        run.source,
        run.skipped,
        make_item,
        config,
        run.state.step,
        run.rank,
        run.world,
        pin=run.fabric.device.type == "cuda",
        encode=None if maps.keep else maps.compute,
    )
    return warn_on_stall(
        batches,
        config.train.stall_timeout,
        lambda seconds: run.progress.log(f"step {run.state.step + 1}: waiting for images for {seconds:.0f} s"),
    )
