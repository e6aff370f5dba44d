"""Runs and ONNX files opened as Segmenters: which network predicts, with which prototypes, at which size."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch

from clips4.config import Config
from clips4.errors import UserError
from clips4.inference.encoding.encoder import Precision
from clips4.inference.encoding.tta import InferenceOptions
from clips4.method.calibration import SpaceCalibration
from clips4.method.prediction_context import PredictionContext
from clips4.models.calibrated_teacher import calibrated
from clips4.models.checkpoint import Checkpoint, load_checkpoint
from clips4.models.residual_student import ResidualStudent
from clips4.models.sliding_window import inference_size
from clips4.models.teachers.base import load_teacher
from clips4.utils.devices import pick_device

if TYPE_CHECKING:
    from clips4.inference.segmenter import Segmenter

Backend = Literal["torch", "onnx"]
Use = Literal["auto", "student", "teacher"]
_SPOILED = "by its quality report this run is no better than its teacher"


def open_segmenter(
    cls: "type[Segmenter]",
    run: str | Path,
    device: str,
    precision: Precision,
    options: InferenceOptions | None,
    backend: Backend,
    use: Use,
) -> "Segmenter":
    """What ``Segmenter.load`` returns; see there."""
    from clips4.models.hub import fetch_run
    from clips4.models.onnx.runtime import is_exported

    if backend not in get_args(Backend):
        raise UserError(f"backend {backend!r}: choose one of {', '.join(get_args(Backend))}")
    if use not in get_args(Use):
        raise UserError(f"use {use!r}: choose one of {', '.join(get_args(Use))}")
    where = pick_device(device)
    if backend == "onnx" or is_exported(run):
        return _by_onnx(cls, run, where, precision, options, use)
    checkpoint = load_checkpoint(fetch_run(run))
    if use == "teacher" or (use == "auto" and checkpoint.card.get("use") == "teacher"):
        try:
            segmenter = _by_teacher(cls, checkpoint, where, precision, options)
        except UserError as error:
            if use == "teacher":
                raise
            warnings.warn(f"{run}: {_SPOILED}, which cannot be loaded: {error}", stacklevel=3)
        else:
            if use == "auto":
                warnings.warn(f"{run}: {_SPOILED}, which predicts; use student to override this", stacklevel=3)
            return segmenter
    config = checkpoint.config
    return cls(
        checkpoint.student.to(where),
        config.teacher,
        inference_size(config.data),
        where,
        checkpoint.prototypes,
        options=options,
        precision=precision,
        context=_context_of(config, checkpoint.prototypes.space),
    )


def _by_onnx(
    cls: "type[Segmenter]",
    run: str | Path,
    where: torch.device,
    precision: Precision,
    options: InferenceOptions | None,
    use: Use,
) -> "Segmenter":
    """A student run by ONNX Runtime."""
    from clips4.models.hub import fetch_run
    from clips4.models.onnx.runtime import is_exported, load_onnx

    if precision not in ("auto", "float32"):
        raise UserError(f"precision {precision!r}: an ONNX file has a fixed precision; leave it out")
    network, exported = load_onnx(Path(run) if is_exported(run) else fetch_run(run), str(where))
    size, prototypes = inference_size(exported.config.data), exported.prototypes
    if use == "teacher":
        raise UserError(f"{run}: ONNX Runtime runs the student alone; leave out use='teacher'")
    if use == "auto" and exported.card.get("use") == "teacher":
        warnings.warn(f"{run}: {_SPOILED}; an ONNX file holds the student alone", stacklevel=4)
    return cls(
        network,
        exported.config.teacher,
        size,
        where,
        prototypes,
        options=options,
        precision="float32",
        context=_context_of(exported.config, prototypes.space),
    )


def _by_teacher(
    cls: "type[Segmenter]",
    checkpoint: Checkpoint,
    where: torch.device,
    precision: Precision,
    options: InferenceOptions | None,
) -> "Segmenter":
    """The teacher of a run with its own prototypes: a residual student without its head, or the teacher itself."""
    config, prototypes = checkpoint.config, replace(checkpoint.prototypes, head_scale=0.0)
    context = _context_of(config, prototypes.space)
    if isinstance(checkpoint.student, ResidualStudent):
        student = checkpoint.student.to(where)
        student.head_scale = 0.0
        size = inference_size(config.data)
        return cls(
            student, config.teacher, size, where, prototypes, options=options, precision=precision, context=context
        )
    teacher = calibrated(load_teacher(config.teacher).to(where), prototypes.space)
    side = config.data.long_side
    return cls(
        teacher.encode_pixels,
        config.teacher,
        side,
        where,
        prototypes,
        teacher,
        options=options,
        precision="float32",
        context=context,
    )


def _context_of(config: Config, space: SpaceCalibration | None) -> PredictionContext:
    """The run's ``extensions.prediction_context``, with the temperatures of its space."""
    tau, weight = config.objective.temperature, config.extensions.prediction_context
    if space is None:
        return PredictionContext(weight, tau, tau)
    return PredictionContext(weight, space.text_temperature(tau), space.pixel_temperature(tau))
