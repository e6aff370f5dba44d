"""The calibration of the teacher's space, estimated once per run from images and a fixed vocabulary."""

from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from clips4.config import Config
from clips4.data.class_names import data_lines, parse_classes
from clips4.data.image_source import Source
from clips4.method.calibration import SpaceCalibration, fit_calibration, mean_vector
from clips4.models.teachers.base import Teacher
from clips4.models.teachers.prompts import load_templates
from clips4.models.teachers.text_cache import cached_class_vectors
from clips4.utils.images import RGB, load_rgb, reduce_to
from clips4.utils.progress import ProgressReporter
from clips4.utils.tensors import to_tensor

SAMPLE = 128  # training images whose mean pixel vectors are averaged, spread over the set
EVERY = 4  # of the shipped nouns in alphabetical order; some 1,000 fix their mean
# photographs inside scikit-image: where all training images show one thing, they keep it from being removed
REFERENCES = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "astronaut.png")


def estimate_space(
    teacher: Teacher, source: Source, config: Config, device: torch.device, progress: ProgressReporter
) -> SpaceCalibration:
    """The offsets of the teacher's space; the same on every rank and at every call.

    Args:
        teacher: as it is, on ``device``.
        source: the images of the run.
        config: of the run.
        device: where the teacher is.
        progress: advances by image.
    """
    vocabulary = parse_classes(data_lines("nouns.txt")[::EVERY], "nouns.txt")
    words = cached_class_vectors(teacher, vocabulary, load_templates(config.teacher.templates)[:1])

    def mean_of(image: RGB) -> Tensor:
        return mean_vector(teacher.encode_pixels(to_tensor(image)[None].to(device))[0]).cpu()

    progress.stage("calibrating the teacher", SAMPLE + len(REFERENCES))
    means = []
    for _, image in source.sample(SAMPLE, config.data.long_side):
        means.append(mean_of(image))
        progress.advance({})
    references = []
    for path in reference_images():
        references.append(mean_of(reduce_to(load_rgb(path), config.data.long_side)))
        progress.advance({})
    space = fit_calibration(torch.stack(means), words, torch.stack(references))
    return SpaceCalibration(space.pixel_offset.float(), space.text_offset.float())


def reference_images() -> list[Path]:
    """The reference images, as files of the installed scikit-image."""
    return [Path(str(files("skimage").joinpath("data", name))) for name in REFERENCES]
