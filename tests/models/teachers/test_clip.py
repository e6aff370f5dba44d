"""CLIP as a teacher: pictures of any size, texts, folders good and bad."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.sliding_window import to_patches
from clips4.models.teachers.attention.dense_attention import DENSE_ATTENTIONS
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.models.teachers.clip import MEAN, STD, ClipTeacher
from tests.helpers import generator
from tests.models.teachers.models import random_clip, write_clip, write_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved random CLIP; read only."""
    path = tmp_path_factory.mktemp("clip") / "model"
    write_clip(path)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


def load(folder: Path, **settings: Any) -> ClipTeacher:
    teacher = load_teacher(TeacherConfig.model_validate({"name": str(folder), **settings}))
    assert isinstance(teacher, ClipTeacher)
    return teacher


def random_image(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=generator(seed))


# ------------------------------------------------------------------------------------------------------- protocol


def test_clip_meets_the_protocol(folder: Path) -> None:
    teacher = load(folder)
    assert isinstance(teacher, Teacher)
    assert (teacher.embed_dim, teacher.patch_stride) == (24, 8)
    assert Path(teacher.name).is_absolute()
    assert load_teacher(teacher.name).settings == teacher.settings
    assert json.loads(json.dumps(teacher.settings)) == teacher.settings


@pytest.mark.parametrize(
    "setting", [{"dense_attention": "sclip"}, {"precision": "bf16-true"}, {"window": 64}, {"overlap": 0.25}]
)
def test_settings_that_change_the_maps_are_among_those_that_name_caches(folder: Path, setting: dict[str, Any]) -> None:
    assert load(folder, **setting).settings != load(folder).settings


def test_other_weights_have_another_fingerprint(folder: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "other", seed=1)
    ours, theirs = load(folder), load(tmp_path / "other")
    assert ours.settings["model"] != theirs.settings["model"]
    assert ours.text_settings != theirs.text_settings


def test_nothing_passes_a_gradient(folder: Path) -> None:
    teacher = load(folder)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    images = random_image(32, 32).requires_grad_()
    for out in (teacher.encode_pixels(images), teacher.encode_text(["cat"]), *teacher.encode_pixels_and_keys(images)):
        assert not out.requires_grad


# --------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("dense_attention", DENSE_ATTENTIONS)
@pytest.mark.parametrize("size", [(32, 32), (64, 24), (37, 51), (5, 3), (8, 100)])
def test_any_size_gives_unit_vectors_for_each_patch(folder: Path, dense_attention: str, size: tuple[int, int]) -> None:
    out = load(folder, dense_attention=dense_attention).encode_pixels(random_image(*size, batch=2))
    height, width = (max(1, round(side / 8)) for side in size)
    assert out.shape == (2, 24, height, width)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2, height, width))


def test_batch_is_its_images(folder: Path) -> None:
    teacher, images = load(folder, window=24), random_image(40, 56, batch=3)
    alone = torch.cat([teacher.encode_pixels(image[None]) for image in images])
    torch.testing.assert_close(teacher.encode_pixels(images), alone, rtol=0, atol=1e-6)


def test_side_that_is_no_multiple_of_the_patch_is_resized(folder: Path) -> None:
    teacher, images = load(folder), random_image(37, 51)
    assert torch.equal(teacher.encode_pixels(images), teacher.encode_pixels(to_patches(images, 8)))


def test_windows_are_read_alone_and_averaged(folder: Path) -> None:
    teacher, images = load(folder, dense_attention="sclip", window=32, overlap=0.5), random_image(32, 48)
    left, right = (teacher.encode_pixels(images[..., start : start + 32]) for start in (0, 16))
    out = teacher.encode_pixels(images)
    torch.testing.assert_close(out[..., :2], left[..., :2], rtol=0, atol=1e-6)
    torch.testing.assert_close(out[..., 4:], right[..., 2:], rtol=0, atol=1e-6)
    torch.testing.assert_close(out[..., 2:4], F.normalize(left[..., 2:] + right[..., :2], dim=1), rtol=0, atol=1e-6)
    whole = load(folder, dense_attention="sclip", window=0).encode_pixels(images)
    assert (whole - out).abs().max() > 1e-3, "positions are others when the picture is read whole"


def test_half_precision_is_near(folder: Path) -> None:
    images = random_image(64, 48)
    exact, half = (load(folder, precision=precision) for precision in ("32-true", "bf16-true"))
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert (exact.encode_pixels(images) * half.encode_pixels(images)).sum(1).min() > 0.98
    assert (exact.encode_text(["cat", "dog"]) * half.encode_text(["cat", "dog"])).sum(1).min() > 0.98


def test_images_are_normalized_as_the_folder_states(folder: Path, copy: Path) -> None:
    images = random_image(32, 32)
    (copy / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    same = (images - 0.5) / 0.25 * std + mean  # normalised by CLIP's own, this is what the other folder sees
    torch.testing.assert_close(load(copy).encode_pixels(images), load(folder).encode_pixels(same), rtol=0, atol=1e-5)


def test_keys_come_with_the_same_map(folder: Path) -> None:
    teacher, images = load(folder, window=32), random_image(40, 56, batch=2)
    z, keys = teacher.encode_pixels_and_keys(images)
    torch.testing.assert_close(z, teacher.encode_pixels(images), rtol=0, atol=1e-6)
    assert keys.shape == (2, 32, 5, 7)
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(2, 5, 7))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), (1, 1, 8, 8)])
def test_encode_pixels_wrong_shapes_raise(folder: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\), got"):
        load(folder).encode_pixels(torch.zeros(shape))


def test_activation_is_the_configs_and_a_wrong_one_shows() -> None:
    """OpenAI's weights were trained with QuickGELU; the same weights under GELU are another model."""
    quick, plain = (random_clip(5, depth=4, activation=name) for name in ("quick_gelu", "gelu"))
    plain.load_state_dict(quick.state_dict())
    images = random_image(32, 32)
    with torch.no_grad():
        ours, theirs = (F.normalize(model.vision_model(images).last_hidden_state, dim=-1) for model in (quick, plain))
    assert (ours - theirs).abs().max() > 3e-3, "a thousand times rounding, after four small random layers"


def test_older_config_without_activation_is_quick_gelu(folder: Path, copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    for tower in ("text_config", "vision_config"):
        del config[tower]["hidden_act"]
    (copy / "config.json").write_text(json.dumps(config))
    images = random_image(32, 32)
    assert torch.equal(load(copy).encode_pixels(images), load(folder).encode_pixels(images))


# ----------------------------------------------------------------------------------------------------------- text

TEXTS = ["a photo of a cat.", "cat", "", "a much longer text, of many words, so that all the others are padded to it"]


def test_text_vectors_equal_transformers(folder: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    model, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    with torch.no_grad():
        out = model.get_text_features(**tokenizer(TEXTS, padding=True, return_tensors="pt"))
    wanted = out if isinstance(out, Tensor) else out.pooler_output
    torch.testing.assert_close(load(folder).encode_text(TEXTS), F.normalize(wanted, dim=1), rtol=0, atol=1e-5)


def test_text_vectors_do_not_depend_on_their_company(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = load(folder)
    together = teacher.encode_text(TEXTS)
    alone = torch.cat([teacher.encode_text([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    monkeypatch.setattr("clips4.models.teachers.vlm.TEXT_BATCH", 3)
    torch.testing.assert_close(teacher.encode_text(TEXTS), together, rtol=0, atol=1e-5)
    assert teacher.encode_text([]).shape == (0, 24)


def test_end_mark_of_old_configs_is_found(folder: Path, copy: Path) -> None:
    """Early conversions say eos_token_id 2, and mean the highest token."""
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2
    (copy / "config.json").write_text(json.dumps(config))
    torch.testing.assert_close(load(copy).encode_text(TEXTS), load(folder).encode_text(TEXTS))


def test_text_longer_than_the_tower_is_cut(folder: Path) -> None:
    teacher = load(folder)
    one, other = teacher.encode_text(["cat " * 100, "cat " * 300])
    torch.testing.assert_close(one, other)


# -------------------------------------------------------------------------------------------------------- folders


def test_weights_in_several_files_are_read(folder: Path, tmp_path: Path) -> None:
    model = random_clip()
    model.save_pretrained(tmp_path / "shards", max_shard_size="1MB")
    write_tokenizer(tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    images = random_image(32, 32)
    assert torch.equal(load(tmp_path / "shards").encode_pixels(images), load(folder).encode_pixels(images))
    next((tmp_path / "shards").glob("model-*2-of*.safetensors")).unlink()
    with pytest.raises(UserError, match="is missing; copy the whole folder again"):
        load(tmp_path / "shards")


def test_weights_in_half_precision_are_computed_with_in_full(tmp_path: Path) -> None:
    random_clip().half().save_pretrained(tmp_path / "half")
    write_tokenizer(tmp_path / "half")
    assert {parameter.dtype for parameter in load(tmp_path / "half").model.parameters()} == {torch.float32}


def change_config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        for key, value in changes.items():
            config.pop(key) if value is None else config.update({key: value})
        (folder / "config.json").write_text(json.dumps(config))

    return change


def remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def without_tensors(prefix: str) -> Callable[[Path], None]:
    def strip(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        kept = {key: value for key, value in tensors.items() if not key.startswith(prefix)}
        save_file(kept, folder / "model.safetensors", {"format": "pt"})

    return strip


def cut_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def pickled_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text("not a configuration")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("config.json"), r"no config\.json there; give the folder that save_pretrained wrote"),
        (no_json, r"config\.json: not readable as JSON"),
        (pickled_only, r"pickled weights \(\.bin, \.pt\) are never loaded"),
        (cut_weights, "its weights cannot be loaded"),
        (change_config(model_type="bert"), "is a 'bert', no CLIP"),
        (change_config(model_type=None), "is a None, no CLIP"),
        (change_config(model_type="clip_text_model"), "has no vision tower"),
        (change_config(model_type="clip_vision_model"), "has no text tower"),
        (change_config(model_type="dinov3_vit"), "dino.txt's is published as pickled weights.*take a SigLIP 2"),
        (change_config(model_type="pe_audio_video"), "is a Perception Encoder of videos and sound.*take a SigLIP 2"),
        (change_config(vision_config=None), "its config has no vision tower"),
        (change_config(text_config=None), "its config has no text tower"),
        (without_tensors("vision_model."), r"has no vision tower \(vision_model"),
        (without_tensors("text_model."), r"has no text tower \(text_model"),
        (without_tensors("visual_projection"), "has not all of its weights"),
        (change_config(projection_dim=7), "its weights cannot be loaded"),
        (remove("vocab.json"), "has no tokenizer"),
    ],
)
def test_wrong_folder_raises_in_one_line(copy: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(UserError, match=message) as caught:
        load(copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)


def test_missing_folder_raises(tmp_path: Path) -> None:
    for name in (str(tmp_path / "gone"), "./gone", "~/gone-clip", "a/b/c"):
        with pytest.raises(UserError, match="no such folder"):
            load_teacher(name)


def test_dense_attentions_are_for_clip() -> None:
    with pytest.raises(UserError, match=r"teacher\.dense_attention = sclip: conse has none"):
        load_teacher(TeacherConfig(name="conse", dense_attention="sclip"))


def test_run_resumes_with_the_weights_it_began_with() -> None:
    from clips4.models.teachers.base import pinned

    commit = "0" * 40
    saved = TeacherConfig(name=f"owner/name@{commit}", dense_attention="sclip")
    assert pinned(TeacherConfig(name="owner/name"), saved) == TeacherConfig(name=f"owner/name@{commit}")
    for name in ("owner/other", "owner/name@v2", "conse"):
        assert pinned(TeacherConfig(name=name), saved).name == name
    assert pinned(TeacherConfig(name="conse"), TeacherConfig(name="conse")).name == "conse"
