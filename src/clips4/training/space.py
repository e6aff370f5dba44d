"""The calibration of a teacher's space, estimated from training images, reference images and a fixed vocabulary."""

from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from clips4.config import SegmentConfig, TeacherConfig
from clips4.data.class_names import ClassList, data_lines
from clips4.data.image_source import Source
from clips4.errors import UserError
from clips4.method.calibration import MeanPixel, SpaceCalibration, calibrate_space, pixel_spread, text_spread
from clips4.method.prototype_search import teacher_segments
from clips4.models.teachers.base import Teacher
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.models.teachers.text.prompts import load_templates
from clips4.models.teachers.text.text_cache import cached_class_vectors
from clips4.utils import distributed
from clips4.utils.images import load_rgb, reduce_to
from clips4.utils.progress import ProgressReporter

IMAGES = 512  # training images sampled evenly
_REFERENCE = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
_REFERENCE_SIDE = 512
_EVERY_NOUN = 8  # of the shipped nouns, for the vocabulary


def reference_images() -> list[Path]:
    """Photographs inside scikit-image's own package, which need no download.

    Raises:
        UserError: one is missing.
    """
    paths = [Path(str(files("skimage").joinpath("data", name))) for name in _REFERENCE]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: is missing from scikit-image; reinstall it, or set teacher.calibrate=false")
    return paths


def vocabulary() -> ClassList:
    """Every eighth of the shipped nouns."""
    nouns = data_lines("nouns.txt")[::_EVERY_NOUN]
    return ClassList(tuple(nouns), tuple((noun,) for noun in nouns))


@torch.no_grad()
def estimate_space(
    teacher: Teacher,
    settings: TeacherConfig,
    source: Source,
    teacher_maps: TeacherMaps,
    long_side: int,
    share: float,
    device: torch.device,
    progress: ProgressReporter,
) -> SpaceCalibration:
    """One pass over a sample of the training images, split among ranks, and the same calibration on each.

    Args:
        teacher: raw, on its device.
        settings: of the teacher, for its templates.
        source: the training images.
        teacher_maps: raw maps of the training images.
        long_side: of training images.
        share: rho, the weight of the reference images; 1 needs no pass over the training images.
        device: where the teacher is.
        progress: reports the stage and each image.

    Raises:
        UserError: no image can be read.
    """
    reference_mean, names, spreads = _measure_reference(
        teacher, settings, TeacherMaps(teacher, device, keep=teacher_maps.keep)
    )
    training = MeanPixel(teacher.embed_dim)
    if share < 1:
        _add_sample(training, source, teacher_maps, long_side, progress)
    try:
        training_mean = training.result()
    except ValueError:  # not needed, or the pass that follows says which images cannot be read
        training_mean = reference_mean
    return calibrate_space(training_mean, reference_mean, names, spreads, share)


@torch.no_grad()
def reference_space(teacher: Teacher, settings: TeacherConfig, device: torch.device) -> SpaceCalibration:
    """The calibration by the reference images alone, the same for all sets of images; each rank may call it by itself.

    Args:
        teacher, settings, device: see ``estimate_space``.
    """
    mean, names, spreads = _measure_reference(teacher, settings, TeacherMaps(teacher, device))
    return calibrate_space(mean, mean, names, spreads)


def _measure_reference(
    teacher: Teacher, settings: TeacherConfig, maps: TeacherMaps
) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """(D,) mean pixel vector of the reference images, (V, D) raw vectors of the vocabulary, and both spreads."""
    names = cached_class_vectors(teacher, vocabulary(), load_templates(settings.templates))
    shown = [maps(reduce_to(load_rgb(path), _REFERENCE_SIDE)).float().cpu() for path in reference_images()]
    mean = torch.stack([pixel_map.double().flatten(1).mean(1) for pixel_map in shown]).mean(0)

    alone = calibrate_space(mean, mean, names)
    segments = []
    for pixel_map in shown:
        whole = torch.zeros(pixel_map.shape[1:], dtype=torch.int64)
        segments.append(teacher_segments(alone.calibrate_pixels(pixel_map), whole, SegmentConfig())[0])
    image = torch.repeat_interleave(torch.arange(len(segments)), torch.tensor([len(each) for each in segments]))
    rows = torch.cat(segments)
    return mean, names, (pixel_spread(rows, image), text_spread(rows, alone.calibrate_text(names)))


def _add_sample(
    mean: MeanPixel, source: Source, teacher_maps: TeacherMaps, long_side: int, progress: ProgressReporter
) -> None:
    """Add this rank's part of a sample of the training images."""
    rank, world = distributed.rank(), distributed.world_size()
    sampled = min(IMAGES, source.sizes()[0])
    progress.stage("calibrating the teacher's space", len(range(rank, sampled, world)))
    for number, (_, rgb) in enumerate(source.sample(IMAGES, long_side)):
        if number % world == rank:
            mean.add(teacher_maps(rgb).float())
            progress.advance({})
