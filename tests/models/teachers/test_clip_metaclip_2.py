"""MetaCLIP 2 with random weights: CLIP's vision tower, and texts in the tokens of a vocabulary of its own."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.teacher_trunk import empty_trunk, trunk_of
from clips4.models.teachers.attention.dense_attention import DENSE_ATTENTIONS, block, tokens_before_last
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.models.teachers.clip import MEAN, STD, ClipTeacher, MetaClip2Teacher
from clips4.models.teachers.vlm import Origin
from tests.helpers import generator
from tests.models.teachers.models import random_clip, write_unigram_tokenizer

TEXTS = ["a photo of a Cat", "a cat", "", "一张猫的照片，这句话的字数超过二十个，所以要被截断成二十个词元"]


def write_metaclip_2(folder: Path) -> Any:
    """Save a random MetaCLIP 2, whose texts end with token 2 as published; returns the model."""
    from transformers import MetaClip2Config, MetaClip2Model

    tokens = write_unigram_tokenizer(folder, ("a", "photo", "of", "cat", "Cat"))
    text: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "vocab_size": tokens, "max_position_embeddings": 20, "projection_dim": 24}
    text |= {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    vision = random_clip().config.vision_config.to_dict() | {"model_type": "metaclip_2_vision_model"}
    config = MetaClip2Config(text_config=text, vision_config=vision, projection_dim=24)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MetaClip2Model(config).eval()
        for parameter in model.parameters():
            scale = 1.5 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.3
            parameter.data += scale * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("metaclip-2") / "model"
    write_metaclip_2(path)
    return path


def load(folder: Path, **settings: Any) -> MetaClip2Teacher:
    teacher = load_teacher(TeacherConfig.model_validate({"name": str(folder), **settings}))
    assert isinstance(teacher, MetaClip2Teacher)
    return teacher


def test_metaclip_2_meets_the_protocol(folder: Path) -> None:
    teacher = load(folder)
    assert isinstance(teacher, Teacher)
    assert (teacher.embed_dim, teacher.patch_stride) == (24, 8)
    assert teacher.encode_pixels(torch.rand(2, 3, 40, 50, generator=generator(0))).shape == (2, 24, 5, 6)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@torch.no_grad()
def test_text_vectors_equal_those_of_transformers_with_its_own_padding(folder: Path) -> None:
    from transformers import AutoTokenizer

    teacher, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=20, return_tensors="pt")
    wanted = teacher.model.get_text_features(**tokens).pooler_output
    torch.testing.assert_close(teacher.encode_text(TEXTS), F.normalize(wanted, dim=1), rtol=0, atol=1e-5)
    cased = teacher.encode_text(["a cat", "a Cat"])
    assert not torch.allclose(cased[0], cased[1], atol=1e-3), "its vocabulary has capitals"


@torch.no_grad()
def test_global_image_features_equal_those_of_transformers(folder: Path) -> None:
    model, pixels = load(folder).model, torch.randn(2, 3, 32, 32, generator=generator(1))
    vision = model.vision_model
    whole = block(vision.encoder.layers[-1], tokens_before_last(vision, pixels))
    ours = model.visual_projection(vision.post_layernorm(whole[:, 0]))
    torch.testing.assert_close(ours, model.get_image_features(pixels).pooler_output, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("dense_attention", DENSE_ATTENTIONS)
def test_dense_map_equals_that_of_a_clip_with_the_same_tower(folder: Path, dense_attention: str) -> None:
    teacher, clip = load(folder, dense_attention=dense_attention), random_clip()
    weights = teacher.model.state_dict()
    clip.load_state_dict({key: weights[key] for key in clip.state_dict() if "text" not in key}, strict=False)
    settings = TeacherConfig.model_validate({"name": "clip", "dense_attention": dense_attention})
    plain = ClipTeacher(clip, None, settings, Origin("clip", "clip", MEAN, STD))
    images = torch.rand(1, 3, 40, 48, generator=generator(2))
    torch.testing.assert_close(teacher.encode_pixels(images), plain.encode_pixels(images), rtol=0, atol=1e-5)


@torch.no_grad()
def test_trunk_of_a_student_is_built_again_from_its_architecture(folder: Path) -> None:
    teacher = load(folder)
    trunk = trunk_of(teacher)
    again = empty_trunk(json.loads(json.dumps(trunk.architecture))).eval()
    again.load_state_dict(trunk.state_dict())
    pixels = torch.randn(1, 3, 32, 48, generator=generator(3))
    torch.testing.assert_close(again.pixel_map(again(pixels))[0], trunk.pixel_map(trunk(pixels))[0], rtol=0, atol=1e-6)


def test_letters_outside_the_vocabulary_are_unknown_terms(folder: Path) -> None:
    assert load(folder).unknown_terms(["a cat", "a 猫"]) == ["猫"]


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("text_config", {"eos_token_id": 7}, "its tokenizer ends texts with token 2, its text tower with 7"),
        ("vision_config", None, "its config has no vision tower"),
    ],
)
def test_wrong_folder_raises_in_one_line(
    tmp_path: Path, section: str, changes: dict[str, int] | None, message: str
) -> None:
    write_metaclip_2(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[section] = None if changes is None else config[section] | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_tokenizer_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    write_metaclip_2(tmp_path)
    write_unigram_tokenizer(tmp_path, ("dog",))
    with pytest.raises(UserError, match=r"its tokenizer knows \d+ tokens, its text tower \d+"):
        load(tmp_path)


def test_transformers_without_the_model_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    class Older:
        __version__ = "4.51.0"

    monkeypatch.setitem(__import__("sys").modules, "transformers", Older)
    with pytest.raises(UserError, match=r"transformers 4\.51\.0 has no MetaClip2Model; install a newer one"):
        load_teacher(str(folder))
    assert transformers.__version__ != "4.51.0"
