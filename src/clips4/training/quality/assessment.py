"""How the figures of ``quality`` are measured: the trained student beside its teacher, on images without labels."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.data.image_source import ImageFiles
from clips4.method.class_scores import class_scores
from clips4.models.calibrated_teacher import CalibratedTeacher, calibrated
from clips4.models.residual_student import ResidualStudent
from clips4.models.sliding_window import at_inference_size, inference_size
from clips4.models.student import Embedder
from clips4.models.teachers.text.prompts import load_templates
from clips4.models.teachers.text.text_cache import cached_class_vectors
from clips4.training.log import Line
from clips4.training.quality.report import MIN_FIT_OF_NAME, Quality
from clips4.training.setup import Run
from clips4.training.space import reference_space, vocabulary
from clips4.utils.images import RGB
from clips4.utils.tensors import resize_map, to_tensor

IMAGES = 16  # of the training set, where none were kept out
_NEVER, _SWALLOWS = 0.001, 0.8  # share of all named positions of a class
_FIT_IMAGES, _FIT_PIXELS = 40, 8000  # of the training set, that names are compared with
_BEST_SHARE, _BEST_AT_LEAST = 50, 8  # a name's best positions: one in 50, at least 8


class Views(NamedTuple):
    """What student and teacher predict for an image and for its mirror image; all maps are (h, w).

    Attributes:
        student: class of each position, 0..K-1, that the student predicts.
        by_same: the same by the teacher's prototypes.
        teacher: class that the teacher predicts.
        student_mirrored, teacher_mirrored: as student and teacher, of the mirror image, mirrored back.
        unknown: where the student predicts an unknown class.
        cosine: mean over positions of that between student's (with its whole head) and teacher's vector.
    """

    student: Tensor
    by_same: Tensor
    teacher: Tensor
    student_mirrored: Tensor
    teacher_mirrored: Tensor
    unknown: Tensor
    cosine: float


@torch.no_grad()
def assess(run: Run, log: Sequence[Line]) -> Quality:
    """Measure a run that has done its last step, on images kept out of training or else on some it was trained on.

    Costs two passes of the student and of the teacher for each of at most 32 images.

    Args:
        run: its prototypes are those that the student is queried with.
        log: lines of the run's log.
    """
    images, student = list(_images(run)), run.state.result
    training = student.training
    student.eval()
    run.progress.stage("quality report", len(images))
    views = []
    for image in images:
        views.append(predict_views(run, image))
        run.progress.advance({})
    student.train(training)
    names = run.state.prototypes.names
    fits = fit_of_names(*_pixels_and_vocabulary(run))
    measured = Quality(
        images=run.images,
        measured_on=len(images),
        held_out=bool(run.held_out) and bool(images),
        nonfinite=run.state.left_out / run.state.step,
        loss_ratio=loss_ratio([line["loss"] for line in log if "loss" in line]),
        names_fit=float(torch.tensor(fits).median()) if fits else None,
        strangers=tuple(name for name, fit in zip(names, fits, strict=False) if fit < MIN_FIT_OF_NAME),
    )
    return add_views(measured, views, names) if views else measured


def _images(run: Run) -> Iterator[RGB]:
    """The held-out images that can be read; of a run without, some of its training images."""
    side = run.config.data.long_side
    if run.held_out:
        yield from (image for _, _, image in ImageFiles(run.held_out).iterate(side, 0, 1) if not isinstance(image, str))
    else:
        yield from (image for _, image in run.source.sample(IMAGES, side))


def predict_views(run: Run, image: RGB) -> Views:
    """Student and teacher, both by prototypes, on an image (H, W, 3) and its mirror image."""
    prototypes, student, device = run.state.current_prototypes(), run.state.result, run.fabric.device
    known, queries = prototypes.known.to(device), prototypes.queries().to(device)
    mirrored, side = image[:, ::-1], inference_size(run.config.data)
    z, z_mirrored = (student(at_inference_size(each, side).to(device))[0] for each in (image, mirrored))
    size = (z.shape[1], z.shape[2])
    maps = run.teacher_maps(image), run.teacher_maps.compute(to_tensor(mirrored))
    i, i_mirrored = (F.normalize(resize_map(each[None].float().to(device), size)[0], dim=0) for each in maps)
    groups = prototypes.groups
    of_known = None if groups is None else groups[: len(known)]
    cosines = _scores(z, queries, groups)
    named, others = cosines[: len(prototypes.names)], cosines[len(prototypes.names) :]
    unknown = torch.zeros_like(named[0], dtype=torch.bool)
    if len(others):
        unknown = others.amax(0) > named.amax(0) + prototypes.unknown_margin
    return Views(
        named.argmax(0).cpu(),
        _scores(z, known, of_known).argmax(0).cpu(),
        _scores(i, known, of_known).argmax(0).cpu(),
        _scores(z_mirrored, queries[: len(known)], of_known).argmax(0).flip(-1).cpu(),
        _scores(i_mirrored, known, of_known).argmax(0).flip(-1).cpu(),
        unknown.cpu(),
        float((_unscaled(student, at_inference_size(image, side).to(device), z) * i).sum(0).mean()),
    )


def _unscaled(student: Embedder, inputs: Tensor, z: Tensor) -> Tensor:
    """z (D, h, w) with the whole of a residual student's head, whose scale would hide that it went astray."""
    if not isinstance(student, ResidualStudent) or student.head_scale == 1:
        return z
    scale, student.head_scale = student.head_scale, 1.0
    try:
        whole: Tensor = student(inputs)[0]
    finally:
        student.head_scale = scale
    return whole


def _scores(pixels: Tensor, vectors: Tensor, groups: Tensor | None) -> Tensor:
    """(D, h, w), (L, D) and (L,) -> (C, h, w) scores of classes."""
    return class_scores(torch.einsum("dhw,ld->lhw", pixels, vectors), groups, 0)


def add_views(measured: Quality, views: Sequence[Views], names: Sequence[str]) -> Quality:
    """Add the figures that are means over images, or counts over all their positions.

    Args:
        measured: the other figures.
        views: of one image at least.
        names: K names.
    """
    count = len(names)
    named = torch.stack([torch.bincount(each.student[~each.unknown], minlength=count) for each in views]).sum(0)
    by_teacher = torch.stack([torch.bincount(each.teacher.flatten(), minlength=count) for each in views]).sum(0)
    never, swallowing = class_extremes(named, names)
    never_by_teacher, swallowing_by_teacher = class_extremes(by_teacher, names)
    return replace(
        measured,
        agreement=_mean([agreement(each.by_same, each.teacher) for each in views]) if count > 1 else None,
        cosine=_mean([each.cosine for each in views]),
        view_agreement=_mean([agreement(each.student, each.student_mirrored) for each in views]),
        teacher_view_agreement=_mean([agreement(each.teacher, each.teacher_mirrored) for each in views]),
        unknown=_mean([float(each.unknown.double().mean()) for each in views]),
        never=never,
        lost=len(set(never) - set(never_by_teacher)) / max(1, count - len(never_by_teacher)),
        swallowing=tuple(name for name in swallowing if name not in swallowing_by_teacher),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def agreement(student: Tensor, teacher: Tensor) -> float:
    """Share of equal labels, of two label maps of the same shape.

    Raises:
        ValueError: other shapes, or no position.
    """
    if student.shape != teacher.shape or not student.numel():
        raise ValueError(f"label maps of the same shape expected, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    return float((student == teacher).double().mean())


def class_extremes(counts: Tensor, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes predicted almost nowhere, and those that swallow everything.

    Args:
        counts: (K,) positions of each class.
        names: K names.

    Returns:
        Names below .1 % and above 80 % of all named positions; a single class swallows nothing.
    """
    shares = (counts.double() / counts.double().sum().clamp(min=1)).tolist()
    never = tuple(name for name, share in zip(names, shares, strict=True) if share < _NEVER)
    swallowing = tuple(name for name, share in zip(names, shares, strict=True) if share > _SWALLOWS)
    return never, swallowing if len(names) > 1 else ()


def loss_ratio(losses: Sequence[float]) -> float | None:
    """Mean of the last tenth, divided by that of the first tenth; None of fewer than 20 losses, or from 0.

    Args:
        losses: finite, of each step.
    """
    part = len(losses) // 10
    if part < 2:
        return None
    first, last = _mean(losses[:part]), _mean(losses[-part:])
    return last / first if first > 0 else None


def _pixels_and_vocabulary(run: Run) -> tuple[Tensor, Tensor, Tensor]:
    """(P, D) of the teacher's pixel vectors, (K, D) text vectors of the names, (V, D) of the vocabulary.

    All in the space of the reference images, so that the sound range does not depend on what the run shows.
    """
    raw = run.teacher.teacher if isinstance(run.teacher, CalibratedTeacher) else run.teacher
    space = reference_space(raw, run.config.teacher, run.fabric.device)
    teacher, maps, templates = calibrated(raw, space), run.teacher_maps.in_space(space), run.config.teacher.templates
    sample = run.source.sample(_FIT_IMAGES, run.config.data.long_side)
    rows = [maps(image).float().flatten(1).T for _, image in sample]
    text, nouns = (
        cached_class_vectors(teacher, names, load_templates(templates))
        for names in (run.state.prototypes.classes, vocabulary())
    )
    pixels = torch.cat(rows) if rows else text[:0]
    return pixels[:: max(1, len(pixels) // _FIT_PIXELS)], text, nouns


def fit_of_names(pixels: Tensor, text: Tensor, vocabulary: Tensor) -> list[float]:
    """How well each name fits: where it fits best, its cosine as a share of that of the noun that fits best there.

    Args:
        pixels: (P, D) the teacher's unit pixel vectors, some of all images.
        text: (K, D) unit text vectors of the names.
        vocabulary: (V, D) those of common nouns.

    Returns:
        For each name the median over its best positions; 1 and more where no noun fits better. None without pixels.
    """
    if not len(pixels):
        return []
    count = min(len(pixels), max(_BEST_AT_LEAST, len(pixels) // _BEST_SHARE))
    best_noun = (pixels @ vocabulary.T).amax(1).clamp(min=1e-6)
    fits = []
    for name in text:
        cosines, at = (pixels @ name).topk(count)
        fits.append(float((cosines / best_noun[at]).median()))
    return fits
