"""A calibrated teacher: pixels, text and keys in one space, raw vectors on disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from clips4.data.class_names import load_classes
from clips4.method.calibration import SpaceCalibration
from clips4.models.calibrated_teacher import CalibratedTeacher, calibrated
from clips4.models.teachers.base import Teacher
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.models.teachers.text.text_cache import cached_class_vectors
from tests.helpers import noise_image, unit

D = 8
SPACE = SpaceCalibration(0.5 * unit(D, dtype=torch.float32), 0.5 * unit(D, seed=1, dtype=torch.float32))


class Raw:
    name, embed_dim, patch_stride = "raw", D, 8

    def __init__(self) -> None:
        self.settings: dict[str, object] = {}

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return torch.stack([unit(D, seed=len(each), dtype=torch.float32) for each in prompts])

    def encode_pixels(self, images: Tensor) -> Tensor:
        return unit(len(images), D, 3, 4, seed=5, dim=1, dtype=torch.float32)

    def unknown_terms(self, texts: Sequence[str]) -> list[str]:
        return []

    def to(self, device: torch.device) -> "Raw":
        return self


class Keyed(Raw):
    def encode_pixels_and_keys(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.encode_pixels(images), torch.ones(len(images), 2, 3, 4)


def test_calibrated_teacher_is_a_teacher_with_other_settings() -> None:
    teacher = CalibratedTeacher(Raw(), SPACE)
    assert isinstance(teacher, Teacher)
    assert teacher.settings != Raw().settings
    torch.testing.assert_close(teacher.encode_pixels(torch.zeros(1, 3, 8, 8)).norm(dim=1), torch.ones(1, 3, 4))


def test_calibrated_teacher_keys_pass_and_pixels_are_calibrated() -> None:
    images = torch.zeros(1, 3, 8, 8)
    pixels, keys = CalibratedTeacher(Keyed(), SPACE).encode_pixels_and_keys(images)  # type: ignore[operator]
    assert torch.equal(pixels, SPACE.calibrate_pixels(Raw().encode_pixels(images)))
    assert torch.equal(keys, torch.ones(1, 2, 3, 4))
    assert not hasattr(CalibratedTeacher(Raw(), SPACE), "encode_pixels_and_keys")


def test_calibrated_without_space_is_the_teacher() -> None:
    raw = Raw()
    assert calibrated(raw, None) is raw


@pytest.mark.parametrize("keep", [True, False])
def test_teacher_maps_calibrated_keep_raw_maps_on_disk(tmp_path: Path, keep: bool) -> None:
    image = np.asarray(noise_image(24, 32))
    raw = TeacherMaps(Raw(), root=tmp_path, keep=keep)
    ours = TeacherMaps(CalibratedTeacher(Raw(), SPACE), root=tmp_path, keep=keep)
    assert raw.path(image) == ours.path(image)
    expected = SPACE.calibrate_pixels(raw(image)).half()
    assert torch.equal(ours(image), expected)
    assert torch.equal(raw.in_space(SPACE)(image), expected)
    assert torch.equal(ours.in_space(None)(image), raw(image))


def test_cached_class_vectors_of_a_calibrated_teacher_calibrate_the_raw_ones(tmp_path: Path) -> None:
    classes = load_classes("cat,a dog")
    raw = cached_class_vectors(Raw(), classes, ["{}"], tmp_path)
    ours = cached_class_vectors(CalibratedTeacher(Raw(), SPACE), classes, ["{}"], tmp_path)
    assert torch.equal(ours, SPACE.calibrate_text(raw))
    assert len(list((tmp_path / "text").iterdir())) == 1
