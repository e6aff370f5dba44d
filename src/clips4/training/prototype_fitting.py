"""The prototypes a trained student is queried with: class prototypes and a bank of segments in the student's own space.

Training draws the student's embedding to the teacher's without making them equal, and where the two differ, the student
has learned from all images. The prototypes of training stay in the teacher's space. Here they are computed again: the
same text finds the same teacher segments, but the mean is that of the student's embedding of these pixels, or with
``prototypes.per_class=nearest`` each segment is seen by the student
(``extensions.student_prototypes``). It may then be fitted to the student's unlabeled pixels
(``prototypes.mixture_prototypes``) with the teacher's prototype as a prior (``extensions.em_iterations``). The
teacher's own prototypes gain nothing from such a fit (docs/journal.md). Not in the paper.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import Config, ExtensionConfig
from clips4.data.image_source import Source
from clips4.data.rng import SAMPLE, seeded
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.method.calibration import unknown_margin
from clips4.method.class_scores import assign
from clips4.method.labeled_prototypes import labeled_prototypes
from clips4.method.prototype_search import teacher_segments
from clips4.method.prototypes import (
    exclusive_prototypes,
    known_prototypes,
    mixture_prototypes,
    nearest_segments,
    text_dimensions,
    with_text_prior,
)
from clips4.method.segments import flatten_pixels, pool
from clips4.models.checkpoint import Prototypes
from clips4.models.sliding_window import at_inference_size, inference_size
from clips4.models.student import Embedder
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.regions.cache import RegionCache
from clips4.training.precompute import BANK_SEGMENTS
from clips4.utils import distributed
from clips4.utils.images import RGB, load_rgb, reduce_to
from clips4.utils.progress import ProgressReporter, counted

TEMPERATURE = 0.03  # tau of the fit in the built-in teacher's space: a pixel counts mostly for its nearest classes
_GAPS = 2**18  # pixels that the margin of unknown is estimated on, about
IMAGES = 512  # sampled evenly from the set where pixels are kept; those that EM needs take some 200 MB
MEAN_IMAGES = 4096  # where segments are averaged without EM


@torch.no_grad()
def fit_to_student(
    prototypes: Prototypes,
    student: Embedder,
    source: Source,
    config: Config,
    regions: RegionCache,
    teacher_maps: TeacherMaps,
    device: torch.device,
    progress: ProgressReporter,
) -> Prototypes:
    """Add the prototypes that the student is queried with, and a bank of segments in both spaces.

    Args:
        prototypes: of the run, as training left them.
        student: trained, on its device.
        source: the images of the run; ``IMAGES`` or ``MEAN_IMAGES`` of them are used, split among ranks.
        config: of the run.
        regions, teacher_maps: of the run; mostly from their caches.
        device: where the student is.
        progress: reports the stage and each image.

    Returns:
        The same with ``fitted`` (prototypes of the student's own, fitted ones, or the teacher's with a text prior),
        ``bank`` and ``student_bank`` (not with the last) and ``unknown_margin``; unchanged where the run asks for none.
    """
    extensions = config.extensions
    fits = bool(extensions.student_prototypes or extensions.em_iterations)
    caps = extensions.unknown_cap < 1 and bool(len(prototypes.unknown))
    if config.objective.mode != "clips4":
        return prototypes
    if extensions.text_prior and not fits:
        known = with_text_prior(prototypes.known, prototypes.text, extensions.text_prior)
        fitted = torch.cat([known, prototypes.unknown])
        prototypes = replace(prototypes, fitted=fitted, text_prior=extensions.text_prior)
    if not (fits or caps):
        return prototypes
    training = student.training
    student.eval()
    rank, world = distributed.rank(), distributed.world_size()
    teacher_side, student_side, pixels = [], [], []
    limit = MEAN_IMAGES if fits and not extensions.em_iterations else IMAGES
    sampled = min(limit, source.sizes()[0])
    gaps = max(16, _GAPS // max(1, sampled))  # pixels of an image
    progress.stage("fitting prototypes", len(range(rank, sampled, world)))
    for number, (path, image) in enumerate(source.sample(limit, config.data.long_side)):
        if number % world == rank:
            z = student(at_inference_size(image, inference_size(config.data)).to(device))
            if fits:
                both = _segments_of_both(image, path, z, config, regions, teacher_maps)
                teacher_side.append(both[0].half())
                student_side.append(both[1].half())
            if extensions.em_iterations or caps:
                halved = F.avg_pool2d(z, 2, ceil_mode=True, count_include_pad=False)  # neighbors are nearly equal
                rows = F.normalize(flatten_pixels(halved), dim=1).half().cpu()
                pixels.append(rows if extensions.em_iterations else rows[:: max(1, len(rows) // gaps)])
            progress.advance({})
    student.train(training)

    if not fits:
        return replace(prototypes, unknown_margin=_margin(prototypes, pixels, extensions))
    nothing = prototypes.text.new_empty(0, prototypes.text.shape[1]).half()
    by_teacher, by_student = torch.cat([nothing, *teacher_side]), torch.cat([nothing, *student_side])
    counts = distributed.counts(len(by_teacher), device=by_teacher.device)[:, 0].tolist()
    by_teacher, by_student = distributed.gather_rows(by_teacher, counts), distributed.gather_rows(by_student, counts)
    start = _found(prototypes, by_teacher.float(), by_student.float(), config)
    if extensions.em_iterations:
        image_of = torch.repeat_interleave(torch.arange(len(pixels)), torch.tensor([len(each) for each in pixels]))
        # the prior of each of a class's prototypes is of the same segment
        one = prototypes.per_class == "mean"
        prior = prototypes.known if one else _found(prototypes, by_teacher.float(), by_teacher.float(), config)
        fitted = _fitted(start, prior, prototypes, torch.cat([nothing, *pixels]), image_of, len(pixels), extensions)
    else:
        start = with_text_prior(start, prototypes.text, extensions.text_prior)
        fitted = torch.cat([start, _unknown_means(prototypes, by_teacher.float(), by_student.float())])
    random = seeded(config.train.seed, SAMPLE)
    drawn = torch.randperm(len(by_teacher), generator=random)[:BANK_SEGMENTS]
    found = replace(
        prototypes,
        fitted=fitted,
        bank=by_teacher[drawn].contiguous(),
        student_bank=by_student[drawn].contiguous(),
        text_prior=0.0 if extensions.em_iterations else extensions.text_prior,
    )
    return replace(found, unknown_margin=_margin(found, pixels, extensions)) if caps else found


def fit_to_labels(
    student: Embedder, labels: LabeledFolder, config: Config, device: torch.device, progress: ProgressReporter
) -> dict[int, Tensor]:
    """The mean of the trained student's embeddings over each class's labeled pixels; see ``labeled_prototypes``."""
    training, size = student.training, inference_size(config.data)
    student.eval()
    found = labeled_prototypes(lambda image: student(at_inference_size(image, size).to(device))[0], labels, progress)
    student.train(training)
    return found


def _margin(prototypes: Prototypes, pixels: list[Tensor], extensions: ExtensionConfig) -> float:
    """delta of ``calibration.unknown_margin``, over evenly spaced pixels (P, D) of each image of all ranks."""
    known, unknown = prototypes.query_known, prototypes.query_unknown
    gaps = [known.new_empty(0)]
    for each in pixels:
        rows = each.to(known)
        gaps.append((rows @ unknown.T).amax(1) - (rows @ known.T).amax(1))
    own = torch.cat(gaps)
    gap = distributed.gather_rows(own, distributed.counts(len(own), device=own.device)[:, 0].tolist())
    return unknown_margin(gap, extensions.unknown_cap)


def _found(prototypes: Prototypes, by_teacher: Tensor, seen: Tensor, config: Config) -> Tensor:
    """Known prototypes: what is seen (S, D) of the segments that text finds among the teacher's (S, D)."""
    text, m, per_class = prototypes.text, config.prototypes.m, prototypes.per_class
    if config.extensions.exclusive_prototypes:
        return exclusive_prototypes(text, by_teacher, m, by_teacher, seen, per_class=per_class)
    return known_prototypes(text, by_teacher, m, seen, per_class)


def _fitted(
    start: Tensor,
    known: Tensor,
    prototypes: Prototypes,
    pixels: Tensor,
    image: Tensor,
    images: int,
    settings: ExtensionConfig,
) -> Tensor:
    """(L, D) prototypes fitted to the student's pixels (P, D); those of known classes begin at ``start``."""
    known, unknown, groups = known.to(start), prototypes.unknown.to(start), prototypes.groups
    of_known = None if groups is None else groups[: len(known)]
    # known prototypes keep to the text dimensions; pixels of low confidence weigh less in their sums
    dimensions = text_dimensions(prototypes.text).to(start.device).expand(len(known), -1)
    prior = settings.prior_weight * known
    tau = TEMPERATURE if prototypes.space is None else prototypes.space.pixel_temperature(TEMPERATURE)
    if settings.unknown_in_fit:
        begin = torch.cat([start, unknown])
        prior = torch.cat([prior, settings.prior_weight * unknown])
        dimensions = torch.cat([dimensions, torch.ones_like(unknown, dtype=torch.bool)])
        return mixture_prototypes(begin, pixels, image, images, tau, settings.em_iterations, prior, dimensions, groups)
    known = mixture_prototypes(start, pixels, image, images, tau, settings.em_iterations, prior, dimensions, of_known)
    # unknown prototypes compete with the known for pixels and move once to those they win
    moved = mixture_prototypes(torch.cat([known, unknown]), pixels, image, images, tau, 1, groups=groups)
    return torch.cat([known, moved[len(known) :]])


def _unknown_means(prototypes: Prototypes, by_teacher: Tensor, by_student: Tensor) -> Tensor:
    """(U, D) the student's mean over the teacher's segments of each unknown class; one without segments stays."""
    labels = assign(by_teacher, prototypes.all().to(by_teacher))
    sums = torch.zeros_like(prototypes.all()).index_add(0, labels, by_student)[len(prototypes.known) :]
    found = torch.bincount(labels, minlength=len(prototypes.all()))[len(prototypes.known) :, None] > 0
    return torch.where(found, F.normalize(sums, dim=1), prototypes.unknown)


@torch.no_grad()
def with_bank_of(
    prototypes: Prototypes,
    text: Tensor,
    m: int,
    images: Sequence[Path],
    embed: Callable[[RGB], Tensor],
    config: Config,
    regions: RegionCache,
    teacher_maps: TeacherMaps,
    progress: ProgressReporter,
) -> Prototypes:
    """Prototypes whose bank holds, of all segments of some images, those that prototypes of new names are means of.

    The run's own bank is a random sample, which holds few segments of a rare class. Memory does not grow with the
    images.

    Args:
        prototypes: of the run.
        text: (K, D) text vectors of the new names.
        m: segments per name.
        images: unlabeled.
        embed: the student: an image (H, W, 3) -> (D, h, w).
        config, regions, teacher_maps: of the run.
        progress: advances once an image.

    Raises:
        UserError: an image cannot be read.
    """
    nothing = text.new_empty(0, text.shape[1]).half()
    by_teacher, by_student = nothing, nothing
    for path in counted(progress, "finding prototypes", images):
        image = reduce_to(load_rgb(path), config.data.long_side)
        both = _segments_of_both(image, path, embed(image)[None], config, regions, teacher_maps)
        by_teacher, by_student = (
            torch.cat([kept, new.half()]) for kept, new in zip((by_teacher, by_student), both, strict=True)
        )
        nearest = nearest_segments(text, by_teacher.float(), m).unique()
        by_teacher, by_student = by_teacher[nearest], by_student[nearest]
    seen = by_student if prototypes.student_bank is not None else None
    return replace(prototypes, bank=by_teacher, student_bank=seen)


def _segments_of_both(
    image: RGB, path: Path, z: Tensor, config: Config, regions: RegionCache, teacher_maps: TeacherMaps
) -> tuple[Tensor, Tensor]:
    """(S, D) the teacher's segments of an image, and (S, D) the student's embedding of the same pixels."""
    pixel_map = teacher_maps(image)
    vectors, labels = teacher_segments(pixel_map, torch.from_numpy(regions(image, path)), config.segments)
    at_map = F.interpolate(z, pixel_map.shape[1:], mode="bilinear", antialias=True, align_corners=False).cpu()
    return vectors.cpu(), pool(flatten_pixels(at_map), labels.flatten().cpu(), len(vectors))
