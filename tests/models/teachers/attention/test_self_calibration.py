"""SC-CLIP's steps against their literal versions, and the local outlier factor against scikit-learn's."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from sklearn.neighbors import LocalOutlierFactor

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.teacher_trunk import trunk_of
from clips4.models.teachers.attention.dense_attention import entering_tokens
from clips4.models.teachers.attention.self_calibration import (
    anomalies,
    apply_self_calibration,
    interpolate_patches,
    local_outlier_factor,
    mixing,
)
from clips4.models.teachers.clip import MEAN, STD, ClipTeacher
from clips4.models.teachers.vlm import Origin
from tests.helpers import generator, provable, seeds
from tests.models.teachers.models import random_clip
from tests.reference import calibrated_attention as reference

SHAPES: list[tuple[dict[str, Any], int, int]] = [
    ({"depth": 12, "width": 16, "heads": 2}, 4, 9),
    ({"depth": 6, "width": 48, "heads": 6, "patch": 16, "image": 48, "activation": "gelu"}, 2, 4),
    ({"depth": 2}, 1, 1),
    ({"depth": 1}, 0, 0),
]


def points_of(seed: int, count: int = 60, dims: int = 4) -> torch.Tensor:
    return torch.randn(count, dims, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize(("shape", "shallow", "middle"), SHAPES, ids=["ViT-B's depth", "6 blocks", "2 blocks", "1"])
def test_self_calibration_equals_its_literal_steps(shape: dict[str, Any], shallow: int, middle: int) -> None:
    model = random_clip(1, **shape).double()
    patch = model.config.vision_config.patch_size
    images = torch.randn(2, 3, 4 * patch, 5 * patch, generator=generator(0), dtype=torch.float64)
    layer = model.vision_model.encoder.layers[-1]
    with torch.no_grad():
        tokens = entering_tokens(model.vision_model, images)
        ours = apply_self_calibration(layer, tokens, (4, 5))
        for image in range(2):
            theirs = reference.sc_clip(layer, [each[image] for each in tokens], (4, 5), shallow, middle)
            torch.testing.assert_close(ours[image], theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("count", "neighbors"), [(60, 30), (60, 5), (8, 30), (2, 1)])
def test_local_outlier_factor_equals_scikit_learns(count: int, neighbors: int) -> None:
    points = points_of(0, count)
    found = local_outlier_factor(points[None] + 100, neighbors)[0]
    theirs = LocalOutlierFactor(min(neighbors, count - 1)).fit(points.numpy()).negative_outlier_factor_
    np.testing.assert_allclose(found.numpy(), -theirs, rtol=1e-6)
    np.testing.assert_allclose(found.numpy(), reference.local_outlier_factors(list(points), neighbors), rtol=1e-6)


@provable
@given(seeds)
def test_local_outlier_factor_does_not_depend_on_place_and_scale(seed: int) -> None:
    points = points_of(seed)[None]
    torch.testing.assert_close(local_outlier_factor(3 * points - 7), local_outlier_factor(points))


def test_local_outlier_factor_of_equal_points_and_of_one_is_one() -> None:
    torch.testing.assert_close(local_outlier_factor(torch.ones(2, 9, 3)), torch.ones(2, 9))
    assert torch.equal(local_outlier_factor(torch.ones(2, 1, 3)), torch.ones(2, 1))


def test_anomalies_are_those_far_from_all_others() -> None:
    points = points_of(0, 100)
    points[[7, 40]] += 30
    wrong = anomalies(points[None])[0]
    assert wrong[[7, 40]].all()
    assert wrong.sum() == 5
    assert not anomalies(torch.ones(1, 20, 3)).any()


def test_interpolate_patches_takes_right_neighbors_alone() -> None:
    patches = torch.arange(12.0).view(1, 12, 1)
    wrong = torch.zeros(1, 12, dtype=torch.bool)
    wrong[0, [0, 1]] = True
    found = interpolate_patches(patches, wrong, (3, 4))[0, :, 0]
    assert found[:2].tolist() == [(4 + 5) / 2, (2 + 4 + 5 + 6) / 4]
    assert torch.equal(found[2:], patches[0, 2:, 0])
    everything = torch.ones(1, 12, dtype=torch.bool)
    assert torch.equal(interpolate_patches(patches, everything, (3, 4)), patches)


def test_mixing_rows_sum_to_one_and_leave_out_what_differs() -> None:
    patches = torch.tensor([[[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]])
    wanted = [[1 / 1.8, 0.8 / 1.8, 0], [0.8 / 2.4, 1 / 2.4, 0.6 / 2.4], [0, 0.6 / 1.6, 1 / 1.6]]
    torch.testing.assert_close(mixing(patches), torch.tensor([wanted]))


def teacher_of(model: Any, **settings: Any) -> ClipTeacher:
    config = TeacherConfig.model_validate({"dense_attention": "sc-clip", **settings})
    return ClipTeacher(model, None, config, Origin("random", "0", MEAN, STD))


def test_teacher_projects_the_calibrated_patches() -> None:
    model, images = random_clip(depth=6), torch.rand(2, 3, 24, 40, generator=generator(0))
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
    with torch.no_grad():
        tokens = entering_tokens(model.vision_model, (images - mean) / std)
        found = apply_self_calibration(model.vision_model.encoder.layers[-1], tokens, (3, 5))
        projected = model.visual_projection(model.vision_model.post_layernorm(found))
    wanted = torch.nn.functional.normalize(projected, dim=-1).transpose(1, 2).unflatten(2, (3, 5))
    torch.testing.assert_close(teacher_of(model).encode_pixels(images), wanted, rtol=0, atol=1e-5)
    alone = torch.cat([teacher_of(model).encode_pixels(each[None]) for each in images])
    torch.testing.assert_close(alone, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(5, 3), (8, 100), (37, 51), (64, 64)])
@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_teacher_of_any_size_and_precision_gives_unit_vectors(size: tuple[int, int], precision: str) -> None:
    teacher = teacher_of(random_clip(), window=40, precision=precision)
    found = teacher.encode_pixels(torch.rand(2, 3, *size, generator=generator(0)))
    height, width = (max(1, round(side / 8)) for side in size)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2, height, width))


def test_teacher_compiles_as_one_graph() -> None:
    teacher, images = teacher_of(random_clip(), window=0), torch.rand(2, 3, 48, 32, generator=generator(0))
    torch.compiler.reset()
    compiled = torch.compile(teacher.encode_pixels, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), teacher.encode_pixels(images), rtol=0, atol=1e-6)


def test_residual_student_of_self_calibration_is_refused() -> None:
    with pytest.raises(UserError, match="sc-clip: takes several blocks together, so that neither a residual student"):
        trunk_of(teacher_of(random_clip()))
