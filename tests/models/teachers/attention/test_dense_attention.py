"""Readings of the last block against their literal equations, and against transformers itself."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.models.teachers.attention.dense_attention import (
    DENSE_ATTENTIONS,
    apply_last_block,
    block,
    last_keys,
    neighborhood,
    tokens_before_last,
)
from clips4.models.teachers.clip import MEAN, STD, ClipTeacher
from clips4.models.teachers.vlm import Origin
from tests.helpers import generator
from tests.models.teachers.models import random_clip
from tests.reference import dense_attention as reference

SHAPES: list[dict[str, Any]] = [
    {},
    {"width": 48, "depth": 3, "heads": 6, "patch": 16, "image": 48, "dims": 32, "activation": "gelu"},
    {"width": 16, "depth": 1, "heads": 1, "patch": 4, "image": 16, "dims": 16},
]
SIZES = [(1.0, 1.0), (2.0, 1.0), (1.0, 1.5), (0.5, 0.5)]


def pixels(model: Any, factor: tuple[float, float], batch: int = 2, seed: int = 0) -> Tensor:
    vision = model.config.vision_config
    height, width = (max(1, round(vision.image_size * f / vision.patch_size)) * vision.patch_size for f in factor)
    return torch.randn(batch, 3, height, width, generator=generator(seed))


def grid_of(model: Any, x: Tensor) -> tuple[int, int]:
    patch = model.config.vision_config.patch_size
    return x.shape[-2] // patch, x.shape[-1] // patch


def clip_teacher(model: Any, kind: str = "maskclip", **settings: Any) -> ClipTeacher:
    config = TeacherConfig.model_validate({"dense_attention": kind, **settings})
    return ClipTeacher(model, None, config, Origin("random", "0", MEAN, STD))


# ------------------------------------------------------------------------------------------- against the literature


@pytest.mark.parametrize("shape", SHAPES, ids=["small", "wide", "one head"])
@pytest.mark.parametrize("kind", DENSE_ATTENTIONS)
def test_each_attention_equals_its_literal_equation(shape: dict[str, Any], kind: Any) -> None:
    model = random_clip(1, **shape).double()
    images = pixels(model, (1.0, 0.75)).double()
    layer, activation = model.vision_model.encoder.layers[-1], model.config.vision_config.hidden_act
    with torch.no_grad():
        x = tokens_before_last(model.vision_model, images)
        ours = apply_last_block(layer, x, kind, grid_of(model, images))
        for image, tokens in enumerate(x):
            theirs = reference.read(layer, tokens, kind, grid_of(model, images), activation)
            torch.testing.assert_close(ours[image], theirs, rtol=0, atol=1e-10)


def test_dense_attentions_of_one_image_differ() -> None:
    model = random_clip()
    images = pixels(model, (1.0, 1.0))
    with torch.no_grad():
        x = tokens_before_last(model.vision_model, images)
        answers = [
            apply_last_block(model.vision_model.encoder.layers[-1], x, r, grid_of(model, images))
            for r in DENSE_ATTENTIONS
        ]
    for i, one in enumerate(answers):
        for other in answers[:i]:
            assert (one - other).abs().max() > 0.1


def test_maskclip_looks_at_one_patch_alone() -> None:
    model = random_clip().double()
    layer = model.vision_model.encoder.layers[-1]
    x = torch.randn(1, 10, 32, generator=generator(0), dtype=torch.float64)
    other = x.clone()
    other[:, 4] += 1
    with torch.no_grad():
        change = (
            apply_last_block(layer, x, "maskclip", (3, 3)) - apply_last_block(layer, other, "maskclip", (3, 3))
        ).abs()
    assert change[0, 3].max() > 0.1
    assert change[0, torch.arange(9) != 3].max() == 0


@pytest.mark.parametrize("kind", ["maskclip", "sclip", "clearclip", "vanilla"])
def test_but_for_naclip_the_order_of_patches_plays_no_part(kind: Any) -> None:
    layer = random_clip().double().vision_model.encoder.layers[-1]
    x = torch.randn(2, 10, 32, generator=generator(0), dtype=torch.float64)
    order = torch.randperm(9, generator=generator(1))
    shuffled = torch.cat([x[:, :1], x[:, 1:][:, order]], 1)
    with torch.no_grad():
        ours, theirs = (apply_last_block(layer, each, kind, (3, 3)) for each in (shuffled, x))
    torch.testing.assert_close(ours, theirs[:, order], rtol=0, atol=1e-10)


def test_neighborhood_is_a_gaussian_of_places() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    omega = neighborhood((3, 4), like, sigma=1.5)
    assert omega.shape == (12, 13)
    assert omega[:, 0].eq(0).all()
    assert omega[:, 1:].diagonal().eq(1).all()
    torch.testing.assert_close(omega[:, 1:], omega[:, 1:].T)
    for i in range(12):
        for j in range(13):
            assert omega[i, j].item() == pytest.approx(reference.omega(i + 1, j, (3, 4), 1.5), abs=1e-12)


def test_unknown_attention_is_named() -> None:
    layer = random_clip().vision_model.encoder.layers[-1]
    with pytest.raises(ValueError, match="unknown dense attention 'best'; choose one of maskclip"):
        apply_last_block(layer, torch.zeros(1, 5, 32), "best", (2, 2))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- against transformers


@pytest.mark.parametrize("factor", SIZES)
@pytest.mark.parametrize("shape", SHAPES, ids=["small", "wide", "one head"])
def test_vanilla_tokens_equal_transformers_projected(shape: dict[str, Any], factor: tuple[float, float]) -> None:
    model = random_clip(2, **shape)
    images = torch.rand(*pixels(model, factor).shape, generator=generator(3))
    normalised = (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    with torch.no_grad():
        hidden = model.vision_model(normalised, interpolate_pos_encoding=True).last_hidden_state
        tokens = model.visual_projection(model.vision_model.post_layernorm(hidden))[:, 1:]
    wanted = F.normalize(tokens, dim=-1).transpose(1, 2).unflatten(2, grid_of(model, images))
    teacher = clip_teacher(model, "vanilla", window=0)
    torch.testing.assert_close(teacher.encode_pixels(images), wanted, rtol=0, atol=1e-5)


def test_every_block_equals_transformers() -> None:
    model = random_clip(4, depth=3)
    with torch.no_grad():
        hidden = model.vision_model(pixels(model, (1.0, 1.0)), output_hidden_states=True).hidden_states
        for layer, before, after in zip(model.vision_model.encoder.layers, hidden, hidden[1:], strict=False):
            torch.testing.assert_close(block(layer, before), after, rtol=0, atol=1e-5)


def test_keys_are_those_of_the_last_attention() -> None:
    model = random_clip()
    layer, x = model.vision_model.encoder.layers[-1], torch.randn(2, 7, 32, generator=generator(0))
    with torch.no_grad():
        keys = last_keys(layer, x)
        torch.testing.assert_close(keys, layer.self_attn.k_proj(layer.layer_norm1(x))[:, 1:])


# ------------------------------------------------------------------------------------------------------- compiling


@pytest.mark.parametrize("kind", DENSE_ATTENTIONS)
def test_dense_attentions_compile_as_one_graph(kind: str) -> None:
    teacher = clip_teacher(random_clip(), kind, window=0)
    images = torch.rand(2, 3, 48, 32, generator=generator(0))
    torch.compiler.reset()
    compiled = torch.compile(teacher.encode_pixels, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), teacher.encode_pixels(images), rtol=0, atol=1e-6)
