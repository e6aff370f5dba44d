"""What a trained student is asked with: class prototypes and a bank of segments as the student itself sees them.

Training leads the student's embedding to the teacher's, but not all the way, and where the two differ it is the
student that has learnt from every picture. The prototypes of training stay in the teacher's space. Here they are found
once more: the same text finds the same teacher segments, but their mean is taken of the student's embedding of these
pixels, and is then fitted to the student's unlabelled pixels (``prototypes.mixture_prototypes``), held back by the
teacher's prototype. The teacher's own prototypes gain nothing from such a fit (docs/journal.md). Not in the paper;
``extensions.em_iterations`` = 0 leaves it out.
"""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import Config, ExtensionConfig
from clips4.data.image_source import Source
from clips4.data.rng import SAMPLE, seeded
from clips4.method.prototype_search import teacher_segments
from clips4.method.prototypes import known_prototypes, mixture_prototypes, text_dimensions
from clips4.method.segments import flatten_pixels, pool
from clips4.models.checkpoint import Prototypes
from clips4.models.sliding_window import at_inference_size
from clips4.models.student import Embedder
from clips4.models.teachers.feature_cache import TeacherMaps
from clips4.regions.cache import RegionCache
from clips4.training.precompute import BANK_SEGMENTS
from clips4.utils import distributed
from clips4.utils.images import RGB
from clips4.utils.progress import ProgressReporter

IMAGES = 512  # looked at, spread over the set; what is held of them takes some 200 MB


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
    """The prototypes of a run with those the student is to be asked with, and a bank of segments as both see them.

    Args:
        prototypes: of the run, as training left them.
        student: trained, on its device.
        source: the pictures of the run; ``IMAGES`` of them are read, shared out over ranks.
        config: of the run.
        regions, teacher_maps: of the run; mostly from their caches.
        device: where the student is.
        progress: is told of the stage and of each picture.

    Returns:
        The same with ``fitted``, ``bank`` and ``student_bank``; as they came where the run wants no fit.
    """
    if not config.extensions.em_iterations or config.objective.mode != "clips4":
        return prototypes
    training = student.training
    student.eval()
    rank, world = distributed.rank(), distributed.world_size()
    progress.stage("fitting prototypes", 0)
    teacher_side, student_side, pixels = [], [], []
    for number, (path, image) in enumerate(source.sample(IMAGES, config.data.long_side)):
        if number % world == rank:
            z = student(at_inference_size(image, config.data.inference_side).to(device))
            seen = _segments_of_both(image, path, z, config, regions, teacher_maps)
            teacher_side.append(seen[0].half())
            student_side.append(seen[1].half())
            halved = F.avg_pool2d(z, 2, ceil_mode=True, count_include_pad=False)  # neighbours are all but equal
            pixels.append(F.normalize(flatten_pixels(halved), dim=1).half().cpu())
            progress.advance({})
    student.train(training)

    nothing = prototypes.text.new_empty(0, prototypes.text.shape[1]).half()
    by_teacher, by_student = torch.cat([nothing, *teacher_side]), torch.cat([nothing, *student_side])
    counts = distributed.counts(len(by_teacher), device=by_teacher.device)[:, 0].tolist()
    by_teacher, by_student = distributed.gather_rows(by_teacher, counts), distributed.gather_rows(by_student, counts)
    start = known_prototypes(prototypes.text, by_teacher.float(), config.prototypes.m, by_student.float())
    picture = torch.repeat_interleave(torch.arange(len(pixels)), torch.tensor([len(each) for each in pixels]))
    fitted = _fitted(start, prototypes, torch.cat([nothing, *pixels]), picture, len(pixels), config.extensions)
    random = seeded(config.train.seed, SAMPLE)
    drawn = torch.randperm(len(by_teacher), generator=random)[:BANK_SEGMENTS]
    return replace(
        prototypes,
        fitted=fitted,
        bank=by_teacher[drawn].contiguous(),
        student_bank=by_student[drawn].contiguous(),
    )


def _fitted(
    start: Tensor, prototypes: Prototypes, pixels: Tensor, image: Tensor, images: int, settings: ExtensionConfig
) -> Tensor:
    """(K + U, D) the prototypes as the student's pixels (P, D) have them; the known begin at ``start`` (K, D)."""
    known, unknown = prototypes.known.to(start), prototypes.unknown.to(start)
    # prototypes of names stay where names are; what the student is less sure of counts less in their sums
    dimensions = text_dimensions(prototypes.text).to(start.device).expand(len(known), -1)
    prior, tau = settings.prior_weight * known, settings.em_temperature
    if settings.unknown_in_fit:
        begin = torch.cat([start, unknown])
        prior = torch.cat([prior, settings.prior_weight * unknown])
        dimensions = torch.cat([dimensions, torch.ones_like(unknown, dtype=torch.bool)])
        return mixture_prototypes(begin, pixels, image, images, tau, settings.em_iterations, prior, dimensions)
    known = mixture_prototypes(start, pixels, image, images, tau, settings.em_iterations, prior, dimensions)
    # the unknown compete with the known for the pixels, and are moved once by what they win
    moved = mixture_prototypes(torch.cat([known, unknown]), pixels, image, images, tau, 1)
    return torch.cat([known, moved[len(known) :]])


def _segments_of_both(
    image: RGB, path: Path, z: Tensor, config: Config, regions: RegionCache, teacher_maps: TeacherMaps
) -> tuple[Tensor, Tensor]:
    """(S, D) the teacher's segments of a picture, and (S, D) the student's embedding of the same pixels."""
    pixel_map = teacher_maps(image)
    vectors, labels = teacher_segments(pixel_map, torch.from_numpy(regions(image, path)), config.segments)
    at_map = F.interpolate(z, pixel_map.shape[1:], mode="bilinear", antialias=True, align_corners=False).cpu()
    return vectors.cpu(), pool(flatten_pixels(at_map), labels.flatten().cpu(), len(vectors))
