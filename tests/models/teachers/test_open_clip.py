"""CLIPs in open_clip's own format: the same features as its network, and every other tower refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from clips4.errors import UserError
from clips4.models.teachers.base import load_teacher
from clips4.models.teachers.clip import ClipTeacher
from clips4.models.teachers.model_files import find_model
from clips4.models.teachers.text.tokenizer import clip_tokens, load_clip_tokenizer
from tests.helpers import generator
from tests.models.teachers.hub_server import HubServer, use_server
from tests.models.teachers.models import write_tokenizer
from tests.reference.open_clip import OpenClip

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
VISION = {"layers": 3, "width": 32, "head_width": 8, "mlp_ratio": 3.0, "patch_size": 8, "image_size": 32}
TEXT = {"layers": 2, "width": 16, "heads": 2, "mlp_ratio": 2.0, "context_length": 20, "vocab_size": 49408}
TEXTS = ["a photo of a cat", "cat", "", "a photo of a much longer text than the tower of twenty tokens takes in"]


def write_open_clip(folder: Path, quick_gelu: bool = True) -> OpenClip:
    """Save a random CLIP in open_clip's layout."""
    model = OpenClip(quick_gelu).eval()
    write_tokenizer(folder)
    config = {
        "model_cfg": {"embed_dim": 24, "quick_gelu": quick_gelu, "vision_cfg": VISION, "text_cfg": TEXT},
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic"},
    }
    (folder / CONFIG).write_text(json.dumps(config))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / WEIGHTS)
    return model


def load(folder: Path) -> ClipTeacher:
    teacher = load_teacher(str(folder))
    assert isinstance(teacher, ClipTeacher)
    return teacher


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of open_clip's; read only."""
    path = tmp_path_factory.mktemp("open-clip") / "model"
    write_open_clip(path)
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """The same as links, whose files may be replaced."""
    copy = tmp_path / "model"
    copy.mkdir()
    for path in saved.iterdir():
        (copy / path.name).hardlink_to(path)
    return copy


def change(folder: Path, path: str, value: object) -> None:
    """Set a key of the configuration; None removes it."""
    config = json.loads((folder / CONFIG).read_text())
    *parents, key = path.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    section.pop(key) if value is None else section.update({key: value})
    (folder / CONFIG).unlink()
    (folder / CONFIG).write_text(json.dumps(config))


@torch.no_grad()
@pytest.mark.parametrize("quick_gelu", [True, False])
def test_global_features_equal_the_networks_own(tmp_path: Path, quick_gelu: bool) -> None:
    model = write_open_clip(tmp_path, quick_gelu)
    teacher, images = load(tmp_path), torch.rand(3, 3, 32, 32, generator=generator(1))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    pixels = (images - mean) / std
    wanted = model.encode_image(pixels)
    vision = teacher.model.vision_model(pixels).pooler_output
    torch.testing.assert_close(teacher.model.visual_projection(vision), wanted, rtol=0, atol=1e-5)
    ids = clip_tokens(load_clip_tokenizer(tmp_path, "test"), TEXTS, 20)
    alone = torch.cat([model.encode_text(torch.tensor([each])) for each in ids])
    torch.testing.assert_close(teacher.encode_text(TEXTS), F.normalize(alone, dim=1), rtol=0, atol=1e-5)


def test_dense_map_has_the_size_of_its_patches(saved: Path) -> None:
    teacher = load(saved)
    assert (teacher.embed_dim, teacher.patch_stride, teacher.name) == (24, 8, str(saved.resolve()))
    assert teacher.encode_pixels(torch.rand(1, 3, 48, 32, generator=generator(2))).shape == (1, 24, 6, 4)
    assert (teacher.settings["mean"], teacher.settings["std"]) == (MEAN, STD)


def test_other_weights_or_configurations_have_another_fingerprint(folder: Path) -> None:
    first = find_model(str(folder))
    assert first.open_clip
    change(folder, "preprocess_cfg.mean", [0.5, 0.5, 0.5])
    second = find_model(str(folder))
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    save_file(tensors | {"logit_scale": torch.tensor(3.0)}, folder / WEIGHTS)
    assert len({first.fingerprint, second.fingerprint, find_model(str(folder)).fingerprint}) == 3


def test_config_json_of_another_library_gives_way_and_that_of_transformers_goes_first(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_clip_224"}))
    assert find_model(str(folder)).open_clip
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(UserError, match=r"no model\.safetensors there"):
        find_model(str(folder))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_cfg.init_logit_scale", 2.0),
        ("model_cfg.vision_cfg.patch_dropout", 0.5),
        ("model_cfg.vision_cfg.image_size", [32, 32]),
        ("model_cfg.vision_cfg.timm_pool", "avg"),
        ("model_cfg.vision_cfg.attentional_pool", False),
        ("model_cfg.vision_cfg.pool_type", "tok"),
        ("model_cfg.text_cfg.pool_type", "argmax"),
        ("model_cfg.text_cfg.hf_tokenizer_name", "openai/clip-vit-base-patch16"),
    ],
)
def test_keys_that_change_no_feature_are_accepted(saved: Path, folder: Path, path: str, value: object) -> None:
    change(folder, path, value)
    images = torch.rand(1, 3, 32, 32, generator=generator(3))
    assert torch.equal(load(folder).encode_pixels(images), load(saved).encode_pixels(images))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_cfg.custom_text", True),
        ("model_cfg.init_logit_bias", -10),
        ("model_cfg.multimodal_cfg", {"layers": 12}),
        ("model_cfg.vision_cfg.timm_model_name", "fastvit_mci2"),
        ("model_cfg.vision_cfg.attentional_pool", True),
        ("model_cfg.vision_cfg.pool_type", "avg"),
        ("model_cfg.vision_cfg.pos_embed_type", "sin_cos_2d"),
        ("model_cfg.vision_cfg.no_ln_pre", True),
        ("model_cfg.vision_cfg.ls_init_value", 0.1),
        ("model_cfg.vision_cfg.layers", [3, 4, 6, 3]),
        ("model_cfg.vision_cfg.image_size", [32, 64]),
        ("model_cfg.vision_cfg.patch_size", 0),
        ("model_cfg.vision_cfg.head_width", 7),
        ("model_cfg.vision_cfg.mlp_ratio", "4"),
        ("model_cfg.vision_cfg.new_kind_of_attention", 1),
        ("model_cfg.text_cfg.hf_model_name", "roberta-base"),
        ("model_cfg.text_cfg.no_causal_mask", True),
        ("model_cfg.text_cfg.embed_cls", True),
        ("model_cfg.text_cfg.pool_type", "last"),
        ("model_cfg.text_cfg.proj_bias", True),
        ("model_cfg.text_cfg.proj_type", "none"),
        ("model_cfg.text_cfg.tokenizer_kwargs", {"clean": "canonicalize"}),
        ("model_cfg.text_cfg.vocab_size", 32000),
        ("model_cfg.text_cfg", "roberta"),
        ("model_cfg.embed_dim", None),
    ],
)
def test_key_of_another_tower_raises_and_is_named(folder: Path, path: str, value: object) -> None:
    change(folder, path, value)
    with pytest.raises(UserError) as caught:
        load(folder)
    line = str(caught.value)
    assert ".".join(path.split(".")[-2:]) in line
    assert str(folder) in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("tower", "kind"),
    [
        ("vit_pe_core_base_patch16_224", "a Perception Encoder"),
        ("eva_giant_patch14_clip_224", "an EVA-CLIP"),
        ("fastvit_mci2", "a MobileCLIP"),
        ("resnet50", "a model"),
    ],
)
def test_tower_of_timm_raises_by_the_name_of_the_model(folder: Path, tower: str, kind: str) -> None:
    change(folder, "model_cfg.custom_text", True)
    change(folder, "model_cfg.vision_cfg.timm_model_name", tower)
    with pytest.raises(
        UserError, match=f"timm_model_name = '{tower}': {kind} whose image tower is timm's.*take a CLIP"
    ):
        load(folder)


def without(key: str) -> Callable[[Path], None]:
    def strip(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        save_file({name: value for name, value in tensors.items() if name != key}, folder / WEIGHTS)

    return strip


def with_layer_scale(folder: Path) -> None:
    tensors: dict[str, Any] = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    save_file(tensors | {"visual.transformer.resblocks.0.ls_1.gamma": torch.ones(32)}, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("visual.proj"), "lacks 1 weights of CLIPModel, e.g. visual_projection.weight"),
        (without("transformer.resblocks.1.attn.in_proj_weight"), "lacks 3 weights of CLIPModel"),
        (with_layer_scale, r"has unknown 1 weights of CLIPModel, e\.g\. visual\.transformer\.resblocks\.0\.ls_1"),
        (lambda folder: change(folder, "model_cfg.vision_cfg.image_size", 64), "has wrongly shaped 1 weights"),
        (lambda folder: change(folder, "preprocess_cfg.mean", 0.5), "not three numbers each"),
        (lambda folder: (folder / WEIGHTS).unlink(), r"pickled weights \(\.bin, \.pt\) are never loaded"),
        (lambda folder: (folder / "vocab.json").unlink(), r"has no tokenizer; put tokenizer\.json, or vocab\.json"),
        (lambda folder: (folder / CONFIG).unlink(), r"no config\.json there; give .* with open_clip_config\.json"),
    ],
)
def test_wrong_folder_raises_in_one_line(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_model_of_the_hub_is_loaded_again_without_a_network(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(1, 3, 32, 32, generator=generator(4))
    with HubServer() as server:
        commit = server.add("owner/open-clip", saved)
        use_server(server, tmp_path / "hub", monkeypatch)
        teacher = load_teacher("owner/open-clip")
        assert (teacher.name, teacher.settings["model"]) == (f"owner/open-clip@{commit}", commit)
        assert torch.equal(teacher.encode_pixels(images), load(saved).encode_pixels(images))
        assert server.asked("GET", "model.safetensors") == 0
    for name in ("owner/open-clip", teacher.name):
        assert torch.equal(load_teacher(name).encode_pixels(images), teacher.encode_pixels(images))


def test_repository_of_timm_is_read_in_its_open_clip_part(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubServer() as server:
        commit = server.add("timm/vit", saved)
        server.files["timm/vit"][commit] |= {"config.json": b'{"architecture": "vit"}', "model.safetensors": b"x"}
        use_server(server, tmp_path / "hub", monkeypatch)
        assert find_model("timm/vit").open_clip
        assert server.asked("GET", "model.safetensors") == 0
