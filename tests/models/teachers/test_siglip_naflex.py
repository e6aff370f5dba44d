"""SigLIP 2 NaFlex with random weights: images of any aspect as lists of patches."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.models.teachers.siglip import NaflexTeacher
from tests.helpers import generator

LETTERS = "▁abcdefghijklmnopqrstuvwxyz"
WORDS = 5 + len(LETTERS)


def write_tokenizer(folder: Path) -> None:
    """Letters in a tokenizer of the kind of SigLIP 2's, which is Gemma's in lower case; texts end with <eos>."""
    from tokenizers import processors
    from transformers import Siglip2Tokenizer

    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer = Siglip2Tokenizer(vocab={token: index for index, token in enumerate([*marks, *LETTERS])})
    end = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.backend_tokenizer.post_processor = end
    tokenizer.save_pretrained(folder)


def write_naflex(folder: Path, tokens: int = WORDS, **vision: Any) -> Any:
    """Save a random SigLIP 2 NaFlex of 4 x 4 positions and its tokenizer; returns the model."""
    from transformers import Siglip2Config, Siglip2Model

    text = {"vocab_size": tokens, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "max_position_embeddings": 16, "projection_size": 32}
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    tower |= {"num_patches": 16, "patch_size": 8, **vision}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Siglip2Model(Siglip2Config(text_config=text, vision_config=tower)).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("naflex") / "model"
    write_naflex(path)
    return path


def load(folder: Path, **settings: Any) -> NaflexTeacher:
    teacher = load_teacher(TeacherConfig.model_validate({"name": str(folder), **settings}))
    assert isinstance(teacher, NaflexTeacher)
    return teacher


def inputs(image: Tensor, padding: int = 0) -> dict[str, Tensor]:
    """What transformers' image processor makes of one image (3, H, W) in [-1, 1], literally; with padded patches."""
    rows, columns = image.shape[1] // 8, image.shape[2] // 8
    patches = []
    for row in range(rows):
        for column in range(columns):
            patch = image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            patches.append(patch.permute(1, 2, 0).flatten())
    mask = torch.tensor([[1] * len(patches) + [0] * padding])
    values = F.pad(torch.stack(patches), (0, 0, 0, padding))[None]
    return {
        "pixel_values": values,
        "pixel_attention_mask": mask,
        "spatial_shapes": torch.tensor([[rows, columns]]),
    }


def test_naflex_meets_the_protocol(folder: Path) -> None:
    teacher = load(folder)
    assert isinstance(teacher, Teacher)
    assert (teacher.embed_dim, teacher.patch_stride) == (32, 8)
    out = teacher.encode_pixels(torch.rand(2, 3, 24, 57, generator=generator(0)))
    assert out.shape == (2, 32, 3, 7)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2, 3, 7))


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 48), (40, 24)])
def test_map_is_the_head_read_for_each_patch_of_transformers(folder: Path, height: int, width: int) -> None:
    teacher, image = load(folder), torch.rand(1, 3, height, width, generator=generator(1))
    model = teacher.model
    h = model.vision_model(**inputs(image[0] * 2 - 1, padding=3)).last_hidden_state[:, : height * width // 64]
    alone = torch.stack([model.vision_model.head(h[:, place : place + 1]) for place in range(h.shape[1])], 1)
    ours = teacher.encode_pixels(image).flatten(2).transpose(1, 2)
    torch.testing.assert_close(ours, F.normalize(alone, dim=-1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_map_of_one_patch_equals_the_global_feature_of_transformers(folder: Path) -> None:
    teacher, image = load(folder), torch.rand(1, 3, 8, 8, generator=generator(2))
    features = teacher.model.get_image_features(**inputs(image[0] * 2 - 1)).pooler_output
    torch.testing.assert_close(teacher.encode_pixels(image)[..., 0, 0], F.normalize(features), rtol=0, atol=1e-5)


@torch.no_grad()
def test_text_vectors_of_canonical_prompts_equal_transformers(folder: Path) -> None:
    from transformers import AutoTokenizer

    teacher, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    texts = ["a cat", "a dog on a sofa and more than sixteen letters"]
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=16, return_tensors="pt")["input_ids"]
    wanted = teacher.model.get_text_features(input_ids=tokens).pooler_output
    torch.testing.assert_close(teacher.encode_text(texts), F.normalize(wanted, dim=1), rtol=0, atol=1e-5)
    assert torch.equal(teacher.encode_text(["A cat."]), teacher.encode_text(["a cat"]))


@torch.no_grad()
def test_keys_have_the_places_of_the_map(folder: Path) -> None:
    teacher, image = load(folder), torch.rand(1, 3, 16, 24, generator=generator(3))
    pixel_map, keys = teacher.encode_pixels_and_keys(image)
    torch.testing.assert_close(pixel_map, teacher.encode_pixels(image))
    assert keys.shape == (1, 32, 2, 3)


def test_models_without_what_is_needed_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only maskclip applies to it"):
        load(folder, dense_attention="sclip")
    write_naflex(tmp_path / "headless", vision_use_head=False)
    with pytest.raises(UserError, match="has no pooling head"):
        load(tmp_path / "headless")
    write_naflex(tmp_path / "other", tokens=300)
    with pytest.raises(UserError, match="its tokenizer knows 32 tokens, its text tower 300"):
        load(tmp_path / "other")
