"""ProxyCLIP's attention against its literal equation; the whole teacher with a small random DINO beside it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from clips4.config import Config, TeacherConfig
from clips4.errors import UserError
from clips4.inference.encoding.tta import InferenceOptions
from clips4.inference.segmenter import Segmenter
from clips4.models.pretrained import load_proxy
from clips4.models.teacher_trunk import trunk_of
from clips4.models.teachers.attention.dense_attention import tokens_before_last
from clips4.models.teachers.attention.proxy_attention import apply_proxy_attention, proxy_attention
from clips4.models.teachers.base import load_teacher
from clips4.models.teachers.clip import MEAN, STD, ClipTeacher
from clips4.models.teachers.vlm import Origin
from tests.helpers import generator, photograph, unit
from tests.models.backbones.test_dino_vit import make_model
from tests.models.teachers.models import random_clip, write_clip
from tests.reference import calibrated_attention as reference

SHAPES: list[dict[str, Any]] = [{}, {"width": 48, "depth": 3, "heads": 6, "patch": 16, "image": 48, "dims": 32}]


@pytest.mark.parametrize("shape", SHAPES, ids=["small", "wide"])
def test_attention_equals_its_literal_equation(shape: dict[str, Any]) -> None:
    model = random_clip(1, **shape).double()
    patch = model.config.vision_config.patch_size
    images = torch.randn(2, 3, 3 * patch, 4 * patch, generator=generator(0), dtype=torch.float64)
    features = unit(2, 5, 3, 4, seed=1, dim=1)
    layer = model.vision_model.encoder.layers[-1]
    with torch.no_grad():
        x = tokens_before_last(model.vision_model, images)
        ours = apply_proxy_attention(layer, x, features, (3, 4))
        for image in range(2):
            theirs = reference.proxyclip(layer, x[image], features[image])
            torch.testing.assert_close(ours[image], theirs, rtol=0, atol=1e-10)


def test_attention_rows_sum_to_one_and_look_at_what_is_similar_alone() -> None:
    features = unit(2, 4, 5, 6, dim=1)
    weights = proxy_attention(features)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 30, dtype=torch.float64))
    rows = features.flatten(2)
    similarity = torch.einsum("bci,bcj->bij", rows, rows)
    below = similarity < 1.2 * similarity.mean((1, 2), keepdim=True)
    assert below.any()
    assert weights[below].eq(0).all()


def test_attention_of_an_image_that_looks_alike_everywhere_is_each_patch_itself() -> None:
    weights = proxy_attention(torch.ones(1, 1, 2, 3))
    assert torch.equal(weights, torch.eye(6)[None])


def test_features_of_a_finer_grid_mix_values_brought_to_it() -> None:
    layer = random_clip().double().vision_model.encoder.layers[-1]
    x = torch.randn(1, 13, 32, generator=generator(0), dtype=torch.float64)
    coarse = unit(1, 4, 3, 4, dim=1)
    with torch.no_grad():
        same = apply_proxy_attention(layer, x, coarse, (3, 4))
        finer = apply_proxy_attention(layer, x, unit(1, 4, 6, 7, dim=1), (3, 4))
        flat = apply_proxy_attention(layer, torch.ones_like(x), unit(1, 4, 6, 7, dim=1), (3, 4))
    assert finer.shape == same.shape == (1, 12, 32)
    torch.testing.assert_close(flat, flat[:, :1].expand_as(flat))  # equal values stay equal on any grid


# ------------------------------------------------------------------------------------------------- the whole teacher


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A CLIP and a DINO."""
    clip, dino = tmp_path_factory.mktemp("clip"), tmp_path_factory.mktemp("dino")
    write_clip(clip)
    make_model("dinov2").save_pretrained(dino)
    return clip, dino


def load(folders: tuple[Path, Path], **settings: Any) -> ClipTeacher:
    name, proxy = map(str, folders)
    given = {"name": name, "proxy": proxy, "dense_attention": "proxyclip", **settings}
    teacher = load_teacher(TeacherConfig.model_validate(given))
    assert isinstance(teacher, ClipTeacher)
    return teacher


def test_teacher_attends_as_the_proxy_sees_the_image(folders: tuple[Path, Path]) -> None:
    teacher, images = load(folders, window=0), torch.rand(2, 3, 40, 56, generator=generator(0))
    layer, vision = teacher.model.vision_model.encoder.layers[-1], teacher.model.vision_model
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
    features = load_proxy(str(folders[1]))(images)
    assert features.shape[-2:] == (3, 4)  # patches of 14 pixels, beside CLIP's 5 x 7 of 8
    with torch.no_grad():
        x = tokens_before_last(vision, (images - mean) / std)
        tokens = teacher.model.visual_projection(
            vision.post_layernorm(apply_proxy_attention(layer, x, features, (5, 7)))
        )
    wanted = F.normalize(tokens, dim=-1).transpose(1, 2).unflatten(2, (5, 7))
    torch.testing.assert_close(teacher.encode_pixels(images), wanted, rtol=0, atol=1e-5)
    windows = load(folders, window=32)
    assert windows.encode_pixels(images).shape == wanted.shape


def test_caches_are_named_by_the_proxys_weights(folders: tuple[Path, Path], tmp_path: Path) -> None:
    make_model("dinov2", hidden_size=16).save_pretrained(tmp_path)
    ours, other = load(folders).settings, load((folders[0], tmp_path)).settings
    assert ours["proxy"] != other["proxy"]
    assert {**ours, "proxy": None} == {**other, "proxy": None}
    assert "proxy" not in load(folders, dense_attention="naclip").settings


@pytest.mark.parametrize("kind", ["dinov2_with_registers", "dinov3_vit"])
def test_proxy_may_be_any_dino(kind: str, folders: tuple[Path, Path], tmp_path: Path) -> None:
    make_model(kind).save_pretrained(tmp_path)
    teacher = load((folders[0], tmp_path), precision="bf16-true")
    found = teacher.encode_pixels(torch.rand(1, 3, 37, 51, generator=generator(0)))
    assert found.shape == (1, 24, 5, 6)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(1, 5, 6))


def test_lposs_shares_the_proxy_of_the_attention(folders: tuple[Path, Path]) -> None:
    config = Config.model_validate({"teacher": {"dense_attention": "proxyclip", "proxy": str(folders[1])}})
    options = InferenceOptions(refine="lposs")
    segmenter = Segmenter.from_teacher(folders[0], config, "cpu", options=options)
    assert segmenter.graph_features(segmenter.encode_image(photograph(96, 128))) is not None
    assert segmenter.segment(photograph(96, 128), "cat,photo").labels.shape == (96, 128)


def test_what_proxyclip_cannot_do_is_refused_in_one_line(folders: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"proxyclip: takes its attention from a DINOv2 or DINOv3; give its folder"):
        load(folders, proxy=None)
    with pytest.raises(UserError, match="no such folder; give the folder of a DINOv2"):
        load(folders, proxy="/nowhere")
    with pytest.raises(UserError, match="proxyclip: takes a second network, so that neither a residual student nor"):
        trunk_of(load(folders))
    with pytest.raises(UserError, match="proxyclip: conse has none"):
        load_teacher(TeacherConfig(dense_attention="proxyclip"))
    settings, origin = TeacherConfig(dense_attention="proxyclip"), Origin("random", "0", MEAN, STD)
    with pytest.raises(ValueError, match="takes its attention from a proxy"):
        ClipTeacher(random_clip(), None, settings, origin)
