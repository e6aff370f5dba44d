import json
from pathlib import Path

import pytest
import torch

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.teacher_trunk import ConseTrunk, empty_trunk, trunk_of
from clips4.models.teachers.base import load_teacher
from clips4.models.teachers.conse import ConseTeacher
from tests.helpers import FakeTeacher, conse, generator
from tests.models.teachers.models import write_clip


@pytest.mark.parametrize("confidence_dim", [False, True])
@torch.no_grad()
def test_trunk_gives_the_teachers_map_and_the_backbones_levels_in_one_pass(confidence_dim: bool) -> None:
    teacher = ConseTeacher(confidence_dim=confidence_dim) if confidence_dim else conse()
    trunk, images = trunk_of(teacher), torch.rand(2, 3, 64, 96, generator=generator(0))
    levels = trunk((images - 0.498) / 0.502)
    pixel_map, context = trunk.pixel_map(levels)
    assert torch.equal(pixel_map, teacher.encode_pixels(images))
    assert pixel_map.shape == (2, trunk.embed_dim, 2, 3)
    assert context.shape == (2, trunk.context_dim)
    for level, channels, stride in zip(levels, trunk.channels, trunk.strides, strict=True):
        assert level.shape == (2, channels, 64 // stride, 96 // stride)


@torch.no_grad()
def test_context_classifies_the_whole_image() -> None:
    classifier, images = conse().trunk.classifier, torch.rand(1, 3, 64, 96, generator=generator(0))
    _, context = conse().trunk.pixel_map(classifier.backbone(images))
    torch.testing.assert_close(classifier.classifier(context), classifier(images))


@torch.no_grad()
def test_empty_trunk_takes_the_weights_of_another() -> None:
    trunk = conse().trunk
    again = empty_trunk(trunk.architecture).eval()
    again.load_state_dict(trunk.state_dict())
    levels = trunk(torch.rand(1, 3, 64, 64, generator=generator(0)))
    assert torch.equal(again.pixel_map(levels)[0], trunk.pixel_map(levels)[0])
    assert isinstance(again, ConseTrunk)
    assert (again.top_k, again.temperature, again.confidence_dim) == (30, 1.0, False)


def test_empty_trunk_of_another_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        empty_trunk({**conse().trunk.architecture, "teacher": "another"})


def test_teacher_without_trunk_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"residual.*teacher fake.*use conse or a CLIP"):
        trunk_of(FakeTeacher())


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "model"
    write_clip(folder)
    return folder


@pytest.mark.parametrize("attention", ["maskclip", "naclip", "vanilla"])
@torch.no_grad()
def test_trunk_of_a_clip_gives_its_map_for_images_that_fit_its_window(clip: Path, attention: str) -> None:
    settings = TeacherConfig.model_validate({"name": str(clip), "dense_attention": attention})
    teacher, images = load_teacher(settings), torch.rand(2, 3, 64, 96, generator=generator(0))
    trunk = trunk_of(teacher)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (trunk.mean, trunk.std))
    levels = trunk((images - mean) / std)
    pixel_map, context = trunk.pixel_map(levels)
    torch.testing.assert_close(pixel_map, teacher.encode_pixels(images), rtol=0, atol=1e-6)
    assert context.shape == (2, trunk.context_dim)
    assert [level.shape for level in levels] == [(2, trunk.channels[0], 8, 12)] * 4
    again = empty_trunk(json.loads(json.dumps(trunk.architecture))).eval()
    again.load_state_dict(trunk.state_dict())
    assert torch.equal(again.pixel_map(again((images - mean) / std))[0], pixel_map)
