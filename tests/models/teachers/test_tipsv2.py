"""TIPS v2 with random weights: transformers' own features, and MaskCLIP's values with layer scale and a register."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.models.teachers.tipsv2 import Tipsv2Teacher
from tests.helpers import generator

LETTERS = "▁abcdefghijklmnopqrstuvwxyz"
TEXTS = ["a photo of a cat", "a Cat", "a text with more letters than the tower's sixteen tokens take in"]


def write_tipsv2(folder: Path, swiglu: bool = False, tokens: int = 2 + len(LETTERS), seed: int = 0) -> Any:
    """Save a random TIPS v2 of 4 x 4 positions and a tokenizer of letters; returns the model."""
    from transformers import Tipsv2Config, Tipsv2Model, Tipsv2Tokenizer

    text = {"vocab_size": tokens, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "max_position_embeddings": 16}
    vision = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    vision |= {"mlp_ratio": 2, "use_swiglu_ffn": swiglu, "num_register_tokens": 1}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Tipsv2Model(Tipsv2Config(text_config=text, vision_config=vision)).eval()
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    Tipsv2Tokenizer(vocab={token: i for i, token in enumerate(["<pad>", "<unk>", *LETTERS])}).save_pretrained(folder)
    return model


@pytest.fixture(scope="module", params=[False, True], ids=["mlp", "swiglu"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tipsv2") / "model"
    write_tipsv2(path, request.param)
    return path


def load(folder: Path, **settings: Any) -> Tipsv2Teacher:
    teacher = load_teacher(TeacherConfig.model_validate({"name": str(folder), **settings}))
    assert isinstance(teacher, Tipsv2Teacher)
    return teacher


def random_image(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=generator(0))


def literal_values(model: Any, images: Tensor) -> Tensor:
    """(B, N, D) of the published zero-shot segmentation: all tokens' values in the last block, then the patches."""
    *layers, last = model.vision_model.encoder.layer
    x = model.vision_model.embeddings(images)
    for layer in layers:
        x = layer(x)
    h = F.layer_norm(x, x.shape[-1:], last.norm1.weight, last.norm1.bias, last.norm1.eps)
    values = h @ last.attention.v_proj.weight.T + last.attention.v_proj.bias
    projected = values @ last.attention.o_proj.weight.T + last.attention.o_proj.bias
    y = x + last.layer_scale1.lambda1 * projected
    z = y + last.layer_scale2.lambda1 * last.mlp(last.norm2(y))
    return model.vision_model.layernorm(z)[:, 2:]  # after the class token and the register


def test_tipsv2_meets_the_protocol(folder: Path) -> None:
    teacher = load(folder)
    assert isinstance(teacher, Teacher)
    assert (teacher.embed_dim, teacher.patch_stride) == (32, 8)
    assert teacher.encode_pixels(random_image(40, 51, batch=2)).shape == (2, 32, 5, 6)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert (teacher.settings["mean"], teacher.settings["std"]) == ([0, 0, 0], [1, 1, 1])


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 48)])
def test_map_is_the_published_use_of_values(folder: Path, height: int, width: int) -> None:
    teacher, images = load(folder), random_image(height, width)
    wanted = F.normalize(literal_values(teacher.model, images), dim=-1)
    ours = teacher.encode_pixels(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_vanilla_map_is_transformers_own_patches(folder: Path) -> None:
    teacher, images = load(folder, dense_attention="vanilla"), random_image(24, 48)
    wanted = F.normalize(teacher.model.get_image_features(images).last_hidden_state[:, 2:], dim=-1)
    ours = teacher.encode_pixels(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)
    assert teacher.settings["reading"] == "vanilla"


@torch.no_grad()
def test_text_vectors_equal_transformers_with_its_own_padding(folder: Path) -> None:
    from transformers import AutoTokenizer

    teacher, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(TEXTS[:2], padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    ids = {key: tokens[key] for key in ("input_ids", "attention_mask")}
    wanted = F.normalize(teacher.model.get_text_features(**ids).pooler_output, dim=1)
    torch.testing.assert_close(teacher.encode_text(TEXTS)[:2], wanted, rtol=0, atol=1e-5)
    assert torch.equal(teacher.encode_text(["a Cat"]), teacher.encode_text(["a cat"])), "its tokenizer is of lower case"


@torch.no_grad()
def test_keys_are_those_of_the_last_block(folder: Path) -> None:
    teacher, images = load(folder), random_image(16, 24)
    pixel_map, keys = teacher.encode_pixels_and_keys(images)
    torch.testing.assert_close(pixel_map, teacher.encode_pixels(images))
    assert keys.shape == (1, 32, 2, 3)


@pytest.mark.parametrize("kind", ["sclip", "clearclip", "naclip"])
def test_other_attentions_are_refused_with_the_reason(folder: Path, kind: str) -> None:
    with pytest.raises(UserError, match="its source changes CLIP; TIPS v2 takes maskclip or vanilla"):
        load(folder, dense_attention=kind)


def test_wrong_folder_raises_in_one_line(tmp_path: Path) -> None:
    write_tipsv2(tmp_path / "other", tokens=64)
    with pytest.raises(UserError, match=r"its tokenizer knows \d+ tokens, its text tower 64"):
        load(tmp_path / "other")
    write_tipsv2(tmp_path / "own")
    flat = {"model_type": "tipsv2", "patch_size": 14, "img_size": 448, "vision_fn": "vit_base", "embed_dim": 768}
    (tmp_path / "own/config.json").write_text(json.dumps(flat))
    with pytest.raises(UserError, match=r"is of TIPS's own code .*; take a revision that transformers saved"):
        load(tmp_path / "own")


def test_published_weights_without_temperature_are_complete(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    tensors = load_file(copy / "model.safetensors")
    tensors.pop("temperature")  # as its authors' checkpoints
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    images = random_image(16, 16)
    assert torch.equal(load(copy).encode_pixels(images), load(folder).encode_pixels(images))
