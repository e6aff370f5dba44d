"""The estimate of a teacher's space."""

from pathlib import Path

import pytest
import torch

from clips4.config import TeacherConfig
from clips4.data.image_folder import find_images
from clips4.data.image_source import Source, open_source
from clips4.method.calibration import SpaceCalibration
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.training.space import estimate_space, reference_images, vocabulary
from clips4.utils.images import load_rgb, reduce_to
from clips4.utils.progress import NoProgress
from tests.helpers import FakeTeacher

SIDE = 96


@pytest.fixture
def source(images: Path) -> Source:
    return open_source(find_images([images]))


def space_of(source: Source, share: float) -> SpaceCalibration:
    teacher = FakeTeacher()
    maps = TeacherMaps(teacher, keep=False)
    return estimate_space(teacher, TeacherConfig(), source, maps, SIDE, share, torch.device("cpu"), NoProgress())


def mean_of(paths: list[Path], side: int) -> torch.Tensor:
    """The mean over images of each image's mean pixel vector."""
    maps = TeacherMaps(FakeTeacher(), keep=False)
    return torch.stack([maps(reduce_to(load_rgb(path), side)).double().flatten(1).mean(1) for path in paths]).mean(0)


def test_reference_images_are_files_of_scikit_image() -> None:
    paths = reference_images()
    assert len(paths) >= 4
    assert all(path.is_file() and "skimage" in path.parts for path in paths)


def test_vocabulary_names_are_different() -> None:
    names = vocabulary().names
    assert len(set(names)) == len(names) > 400


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_pixel_offset_is_the_weighted_mean_of_training_and_reference_images(source: Source, share: float) -> None:
    training = mean_of([path for path, _ in source.sample(512, SIDE)], SIDE)
    expected = (1 - share) * training + share * mean_of(reference_images(), 512)
    torch.testing.assert_close(space_of(source, share).pixel_offset, expected.float(), atol=1e-4, rtol=0)


def test_spreads_do_not_depend_on_the_training_images(source: Source) -> None:
    few, none = space_of(source, 0.0), space_of(source, 1.0)
    assert few.pixel_spread == none.pixel_spread
    assert few.text_spread == none.text_spread
    assert not torch.equal(few.pixel_offset, none.pixel_offset)
