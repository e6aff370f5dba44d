"""EVA02-CLIP in open_clip's format: the same features as a literal version, which was checked against timm."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.backbones.eva_vit import EvaShape
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.models.teachers.eva import SHAPES, EvaClipTeacher
from clips4.models.teachers.text.tokenizer import clip_tokens, load_clip_tokenizer
from tests.helpers import generator
from tests.models.teachers.models import write_tokenizer
from tests.reference.eva import DEPTH, DIMS, HEADS, PATCH, SIZE, WIDTH, EvaClip

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
TINY = "eva02_tiny_patch8_clip_32"
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
TEXT = {"layers": 2, "width": 16, "heads": 2, "mlp_ratio": 2.0, "context_length": 20, "vocab_size": 49408}
TEXTS = ["a photo of a cat", "cat", "a photo of a much longer text than the tower of twenty tokens takes in"]


@pytest.fixture(autouse=True)
def tiny_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, TINY, EvaShape(WIDTH, DEPTH, HEADS, PATCH, SIZE))


def write_eva(folder: Path, **vision: Any) -> EvaClip:
    """Save a random EVA02-CLIP in open_clip's layout."""
    model = EvaClip().eval()
    write_tokenizer(folder)
    tower = {"image_size": SIZE, "timm_model_name": TINY, "timm_model_pretrained": False, "timm_pool": "token"}
    tower |= {"timm_proj": None, **vision}
    config = {
        "model_cfg": {"embed_dim": DIMS, "vision_cfg": tower, "text_cfg": TEXT, "custom_text": True},
        "preprocess_cfg": {"mean": MEAN, "std": STD},
    }
    (folder / CONFIG).write_text(json.dumps(config))
    save_file({key: value.contiguous() for key, value in model.saved().items()}, folder / WEIGHTS)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eva") / "model"
    write_eva(path)
    return path


def load(folder: Path, **settings: Any) -> EvaClipTeacher:
    teacher = load_teacher(TeacherConfig.model_validate({"name": str(folder), **settings}))
    assert isinstance(teacher, EvaClipTeacher)
    return teacher


def test_eva_meets_the_protocol(folder: Path) -> None:
    teacher = load(folder)
    assert isinstance(teacher, Teacher)
    assert (teacher.embed_dim, teacher.patch_stride) == (DIMS, PATCH)
    assert teacher.encode_pixels(torch.rand(2, 3, 40, 51, generator=generator(0))).shape == (2, DIMS, 5, 6)
    assert (teacher.settings["mean"], teacher.settings["std"]) == (MEAN, STD)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40)])
def test_global_image_features_equal_the_literal_tower(folder: Path, height: int, width: int) -> None:
    pixels = torch.randn(2, 3, height, width, generator=generator(1))
    torch.testing.assert_close(load(folder).model.visual(pixels), EvaClip().trunk(pixels), rtol=0, atol=1e-5)


@torch.no_grad()
def test_text_vectors_equal_open_clips_text_tower(folder: Path) -> None:
    ids = clip_tokens(load_clip_tokenizer(folder, "test"), TEXTS, 20)
    wanted = torch.cat([EvaClip().encode_text(torch.tensor([each])) for each in ids])
    torch.testing.assert_close(load(folder).encode_text(TEXTS), F.normalize(wanted, dim=1), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["maskclip", "vanilla"])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40)])
def test_dense_map_equals_the_literal_last_block(folder: Path, kind: str, height: int, width: int) -> None:
    teacher, image = load(folder, dense_attention=kind), torch.rand(3, height, width, generator=generator(2))
    trunk = EvaClip().trunk
    pixels = (image - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    wanted = F.normalize(trunk.head(trunk.norm(trunk.tokens(pixels, kind)[1:])), dim=1)
    ours = teacher.encode_pixels(image[None])[0].flatten(1).T
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_keys_have_the_places_of_the_map(folder: Path) -> None:
    teacher, image = load(folder), torch.rand(1, 3, 16, 24, generator=generator(3))
    pixel_map, keys = teacher.encode_pixels_and_keys(image)
    torch.testing.assert_close(pixel_map, teacher.encode_pixels(image))
    assert keys.shape == (1, WIDTH, 2, 3)


def test_towers_of_the_published_names_have_timms_sizes() -> None:
    assert SHAPES["eva02_base_patch16_clip_224"] == EvaShape(768, 12, 12, 16, 224)
    assert {(shape.width, shape.depth, shape.patch) for name, shape in SHAPES.items() if "large" in name} == {
        (1024, 24, 14)
    }


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ({"timm_pool": "avg"}, r"vision_cfg\.timm_pool = 'avg'"),
        ({"timm_proj": "linear"}, r"vision_cfg\.timm_proj = 'linear'"),
        ({"image_size": 64}, r"vision_cfg\.image_size = 64"),
        ({"layers": 3}, r"vision_cfg\.layers = 3"),
        ({"timm_model_name": "eva02_enormous_patch14_clip_224"}, "an EVA-CLIP whose image tower is timm's"),
    ],
)
def test_key_of_another_tower_raises_and_is_named(tmp_path: Path, vision: dict[str, Any], message: str) -> None:
    write_eva(tmp_path, **vision)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_other_attentions_and_missing_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its source changes CLIP; EVA-CLIP takes maskclip or vanilla"):
        load(folder, dense_attention="sclip")
    write_eva(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    tensors.pop("visual.trunk.blocks.1.attn.norm.weight")
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match=r"lacks 1 weights of EvaClip, e\.g\. visual\.blocks\.1\.attn\.norm\.weight"):
        load(tmp_path)
