"""SigLIP 2 with random weights and a small tokenizer of its kind."""

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
from clips4.models.teachers.siglip import SiglipTeacher, canonical, read_head
from tests.helpers import generator
from tests.models.teachers.models import write_byte_tokenizer

WORDS = 260


def write_siglip(folder: Path, seed: int = 0, tokens: int = WORDS, **vision: Any) -> Any:
    """Save a random SigLIP 2 and a byte tokenizer as Gemma's is, padded to the model's length; returns the model."""
    from transformers import SiglipConfig, SiglipModel

    text = {"vocab_size": tokens, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "max_position_embeddings": 16, "projection_size": 32}
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    tower |= {"image_size": 32, "patch_size": 8, **vision}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=tower)).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    write_byte_tokenizer(folder)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("siglip") / "model"
    write_siglip(path)
    return path


def load(folder: Path, **settings: Any) -> SiglipTeacher:
    teacher = load_teacher(TeacherConfig.model_validate({"name": str(folder), **settings}))
    assert isinstance(teacher, SiglipTeacher)
    return teacher


def random_image(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=generator(0))


def test_siglip_meets_the_protocol(folder: Path) -> None:
    teacher = load(folder)
    assert isinstance(teacher, Teacher)
    assert teacher.embed_dim == 32
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    out = teacher.encode_pixels(random_image(40, 51, batch=2))
    assert out.shape == (2, 32, 5, 6)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2, 5, 6))


def test_each_patch_is_what_the_head_gives_for_it_alone(folder: Path) -> None:
    """The literal meaning of the reading: pool a picture of one patch, for every patch."""
    model = load(folder).model
    with torch.no_grad():
        h = model.vision_model(random_image(32, 32)).last_hidden_state
        alone = torch.stack([model.vision_model.head(h[:, place : place + 1]) for place in range(h.shape[1])], 1)
        torch.testing.assert_close(read_head(model.vision_model.head, h), alone, rtol=0, atol=1e-5)


def test_pixels_lie_in_the_space_of_pooled_images(folder: Path) -> None:
    """A head that looks everywhere alike answers with the mean of the values; with one patch, both are the same."""
    teacher = load(folder)
    image = random_image(8, 8)
    with torch.no_grad():
        features = teacher.model.get_image_features(image * 2 - 1, interpolate_pos_encoding=True)
    pooled = features if isinstance(features, Tensor) else features.pooler_output
    torch.testing.assert_close(teacher.encode_pixels(image)[..., 0, 0], F.normalize(pooled), rtol=0, atol=1e-5)


def test_text_vectors_equal_transformers(folder: Path) -> None:
    from transformers import AutoTokenizer

    teacher, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    texts = ["a cat", "a dog on a sofa and more than sixteen letters"]
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=16, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        features = teacher.model.get_text_features(input_ids=tokens)
    wanted = features if isinstance(features, Tensor) else features.pooler_output
    torch.testing.assert_close(teacher.encode_text(texts), F.normalize(wanted, dim=1), rtol=0, atol=1e-5)
    assert torch.equal(teacher.encode_text(["A CAT"]), teacher.encode_text(["a cat"])), "SigLIP 2 read lower case"


@pytest.mark.parametrize(
    ("prompt", "written"),
    [
        ("a photo of a cat.", "a photo of a cat"),
        ("A T-Shirt (red)!", "a tshirt red"),
        ("the  dining_table's edge", "the dining tables edge"),
        ("señor’s café", "señor’s café"),  # only ASCII punctuation goes
    ],
)
def test_prompts_lose_case_and_punctuation_as_in_the_reference(folder: Path, prompt: str, written: str) -> None:
    teacher = load(folder)
    assert canonical(prompt) == written
    assert torch.equal(teacher.encode_text([prompt]), teacher.encode_text([written]))
    assert not torch.equal(teacher.encode_text(["a b"]), teacher.encode_text(["b a"])), "words still count"


def test_vectors_of_prompts_with_punctuation_are_not_taken_from_old_caches(folder: Path) -> None:
    assert load(folder).text_settings["prompts"] == "canonical"
    assert "prompts" not in load(folder).settings, "pixel maps do not depend on it"


def test_keys_are_the_heads(folder: Path) -> None:
    teacher, image = load(folder), random_image(16, 24)
    z, keys = teacher.encode_pixels_and_keys(image)
    torch.testing.assert_close(z, teacher.encode_pixels(image))
    attention = teacher.model.vision_model.head.attention
    with torch.no_grad():
        h = teacher.model.vision_model(image * 2 - 1, interpolate_pos_encoding=True).last_hidden_state
        wanted = F.normalize(h @ attention.in_proj_weight[32:64].T + attention.in_proj_bias[32:64], dim=-1)
    torch.testing.assert_close(keys.flatten(2).transpose(1, 2), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dense_attention", ["sclip", "clearclip", "naclip", "vanilla"])
def test_other_attentions_are_refused_with_the_reason(folder: Path, dense_attention: str) -> None:
    with pytest.raises(UserError, match="SigLIP has no class token, so only maskclip applies to it"):
        load(folder, dense_attention=dense_attention)


def test_models_without_what_is_needed_are_refused(folder: Path, tmp_path: Path) -> None:
    write_siglip(tmp_path / "headless", vision_use_head=False)
    with pytest.raises(UserError, match="has no pooling head"):
        load(tmp_path / "headless")
    write_siglip(tmp_path / "first", tokens=32000)
    with pytest.raises(UserError, match="is a SigLIP 1"):
        load(tmp_path / "first")
    write_siglip(tmp_path / "other", tokens=300)
    with pytest.raises(UserError, match="its tokenizer knows 260 tokens, its text tower 300"):
        load(tmp_path / "other")
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copied / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="its tokenizer cannot be read"):
        load(copied)
    (copied / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        load(copied)
