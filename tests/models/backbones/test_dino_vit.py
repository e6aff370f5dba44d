"""DINOv2 and DINOv3 as backbones: small random models, saved as transformers saves them."""

import copy
import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Backbone,
    Dinov2WithRegistersBackbone,
    DINOv3ViTBackbone,
)

from clips4.config import Config, StudentConfig, load_config, parse_config
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.models.backbones.dino_vit import IMAGENET_MEAN, IMAGENET_STD, MODEL_TYPES, DinoViT, empty_vit
from clips4.models.checkpoint import load_checkpoint, save_checkpoint
from clips4.models.pretrained import load_backbone, load_dino
from clips4.models.student import Embedder, build_student
from clips4.training.loop import train
from tests.helpers import generator
from tests.models.teachers.hub_server import HubServer, use_server
from tests.models.test_checkpoint import DIMENSIONS, make_prototypes

SHAPE = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2}
SHAPES: dict[str, dict[str, Any]] = {
    "dinov2": {**SHAPE, "image_size": 70, "patch_size": 14},
    "dinov2_with_registers": {**SHAPE, "image_size": 70, "patch_size": 14, "num_register_tokens": 3},
    "dinov3_vit": {**SHAPE, "intermediate_size": 64, "image_size": 64, "patch_size": 16, "num_register_tokens": 2},
}
BACKBONES: dict[str, Any] = {
    "dinov2": Dinov2Backbone,
    "dinov2_with_registers": Dinov2WithRegistersBackbone,
    "dinov3_vit": DINOv3ViTBackbone,
}
PATCH = {name: shape["patch_size"] for name, shape in SHAPES.items()}


def make_model(kind: str, **changes: Any) -> Any:
    """A model whose every weight does something."""
    torch.manual_seed(0)
    model = AutoModel.from_config(CONFIG_MAPPING[kind](**SHAPES[kind] | changes)).eval()
    draw = generator(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One saved model of each type; read only."""
    root = tmp_path_factory.mktemp("dino")
    for kind in MODEL_TYPES:
        make_model(kind).save_pretrained(root / kind)
    return {kind: root / kind for kind in MODEL_TYPES}


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A model of its own to spoil."""
    return Path(shutil.copytree(folders["dinov2"], tmp_path / "model"))


def noise(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=generator(seed))


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# ---------------------------------------------------------------------------------------------------------- levels


@pytest.mark.parametrize("kind", MODEL_TYPES)
@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (3, 6), (1, 2)])
@torch.no_grad()
def test_levels_are_the_feature_maps_of_transformers_own_backbone(
    folders: dict[str, Path], kind: str, rows: int, columns: int
) -> None:
    """After blocks 2, 3, 5 and 6 of 6: quarters, rounded up."""
    theirs = BACKBONES[kind].from_pretrained(folders[kind], out_indices=[2, 3, 5, 6]).eval()
    images = noise(2, rows * PATCH[kind], columns * PATCH[kind])
    levels, maps = load_dino(str(folders[kind]))(images), theirs(images).feature_maps
    for level, expected in zip(levels, maps, strict=True):
        assert level.shape == (2, 32, rows, columns)
        assert expected.std() > 0.1
        torch.testing.assert_close(level, expected, rtol=1e-5, atol=1e-5)
    assert all((a - b).abs().max() > 1e-2 for a, b in pairwise(levels))


@pytest.mark.parametrize("kind", MODEL_TYPES)
@torch.no_grad()
def test_last_level_is_the_patch_tokens_of_the_model(folders: dict[str, Path], kind: str) -> None:
    model = AutoModel.from_pretrained(folders[kind]).eval()
    images = noise(1, 4 * PATCH[kind], 3 * PATCH[kind])
    tokens = model(images).last_hidden_state[:, -12:]
    level = load_dino(str(folders[kind]))(images)[-1]
    torch.testing.assert_close(level.flatten(2).transpose(1, 2), tokens, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("depth", "blocks"), [(12, [3, 6, 9, 12]), (40, [10, 20, 30, 40]), (6, [2, 3, 5, 6]), (1, [1] * 4)]
)
def test_levels_are_spread_evenly_over_the_blocks(depth: int, blocks: list[int]) -> None:
    backbone = empty_vit({"config": {"model_type": "dinov2", **SHAPES["dinov2"], "num_hidden_layers": depth}})
    assert [*backbone.depths, depth] == blocks


@pytest.mark.parametrize("kind", MODEL_TYPES)
@pytest.mark.parametrize(("height", "width"), [(70, 64), (65, 97), (33, 100), (5, 31), (224, 40)])
@torch.no_grad()
def test_any_size_gives_the_nearest_number_of_positions(
    folders: dict[str, Path], kind: str, height: int, width: int
) -> None:
    backbone = load_dino(str(folders[kind]))
    rows, columns = (max(1, int(side / PATCH[kind] + 0.5)) for side in (height, width))  # halves up
    for level in backbone(noise(1, height, width)):
        assert level.shape == (1, 32, rows, columns)
        assert level.isfinite().all()


def color_embedder(kind: str) -> DinoViT:
    """A ViT whose blocks add nothing and whose positions are all alike: a token tells its patch's mean color."""
    model = make_model(kind)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lambda1" in name or "position_embeddings" in name:
                parameter.zero_()
    projection = getattr(model.embeddings.patch_embeddings, "projection", model.embeddings.patch_embeddings)
    with torch.no_grad():
        projection.weight.copy_(projection.weight.mean((2, 3), keepdim=True).expand_as(projection.weight))
    return DinoViT(model, IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_position_reads_the_pixels_of_its_patch(kind: str) -> None:
    images = noise(1, 4 * PATCH[kind], 5 * PATCH[kind]).requires_grad_()
    for level in color_embedder(kind)(images):
        (gradient,) = torch.autograd.grad(level[0, 7, 2, 3], images, retain_graph=True)
        rows, columns = gradient.abs().amax((0, 1)).nonzero().unbind(1)
        patch = PATCH[kind]
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (
            2 * patch,
            3 * patch - 1,
            3 * patch,
            4 * patch - 1,
        )


@pytest.mark.parametrize("kind", MODEL_TYPES)
@pytest.mark.parametrize(("height", "width"), [(112, 112), (120, 96), (121, 107), (97, 150)])
@pytest.mark.parametrize(("y", "x"), [(0.25, 0.25), (0.5, 0.7), (0.8, 0.3)])
@torch.no_grad()
def test_object_has_the_same_position_in_map_and_image(kind: str, height: int, width: int, y: float, x: float) -> None:
    """Whatever the size: the centre of what differs from the background, as a share of the sides, in the levels and in
    the head's common map, to a fifth of a patch."""
    rows, columns = (torch.arange(side) + 0.5 for side in (height, width))
    blob = torch.exp(-((rows[:, None] - y * height) ** 2 + (columns - x * width) ** 2) / (2 * 10.0**2))
    images = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1) + blob * torch.tensor([0.3, 0.1, -0.4]).view(1, 3, 1, 1)
    backbone = color_embedder(kind)
    ground = backbone(torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, height, width))
    for level, plain in zip(backbone(images), ground, strict=True):
        for size in (level.shape[2:], (-(-height // 8), -(-width // 8))):
            differs = torch.nn.functional.interpolate(level - plain, size, mode="bilinear").norm(dim=1)[0] ** 2
            centre_y = (differs.sum(1) * (torch.arange(size[0]) + 0.5)).sum() / differs.sum() / size[0]
            centre_x = (differs.sum(0) * (torch.arange(size[1]) + 0.5)).sum() / differs.sum() / size[1]
            assert abs(centre_y - y) < 0.2 * PATCH[kind] / height
            assert abs(centre_x - x) < 0.2 * PATCH[kind] / width


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_gradients_reach_the_image_from_every_level(folders: dict[str, Path], kind: str) -> None:
    images = noise(1, 40, 50).requires_grad_()
    for level in load_dino(str(folders[kind]))(images):
        (gradient,) = torch.autograd.grad((level**2 * torch.arange(32).view(-1, 1, 1)).sum(), images, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@torch.no_grad()
def test_training_reads_as_evaluation_does(tmp_path: Path) -> None:
    """No dropout, no stochastic depth, no random positions: DINOv3's default scales them by up to 2 when training."""
    make_model("dinov3_vit", attention_dropout=0.3, drop_path_rate=0.3, pos_embed_shift=0.5).save_pretrained(tmp_path)
    backbone = load_dino(str(tmp_path))
    images = noise(2, 64, 64)
    expected = backbone.eval()(images)
    torch.manual_seed(1)
    for level, plain in zip(backbone.train()(images), expected, strict=True):
        assert torch.equal(level, plain)
    assert backbone.training
    backbone.model.train()
    assert not torch.equal(backbone(images)[-1], expected[-1]), "the model has nothing random to switch off"


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_recompute_same_gradients_from_fewer_kept_bytes(folders: dict[str, Path], kind: str) -> None:
    images, found = noise(2, 64, 64), []
    for recomputed in (False, True):
        backbone = load_dino(str(folders[kind]))
        if recomputed:
            backbone.recompute()
            backbone = copy.deepcopy(backbone)  # as a moving average makes it
        backbone.train()
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: (kept.append(x.nbytes), x)[1], lambda x: x):  # type: ignore[misc]
            levels = backbone(images)
        torch.stack([level.square().sum() for level in levels]).sum().backward()
        found.append((sum(kept), {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}))
    (whole, expected), (less, gradients) = found
    assert less < whole / 2
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient)


@torch.no_grad()
def test_copy_predicts_the_same(folders: dict[str, Path]) -> None:
    """Averages of weights are kept in a copy, made before the first picture or after."""
    backbone, images = load_dino(str(folders["dinov3_vit"])), noise(1, 32, 48)
    early = copy.deepcopy(backbone)
    expected = backbone(images)
    for other in (early, copy.deepcopy(backbone)):
        assert all(torch.equal(a, b) for a, b in zip(other(images), expected, strict=True))


# --------------------------------------------------------------------------------------------------------- student


def make_student(folder: Path, frozen: bool = False, stride: int = 8) -> Embedder:
    config = StudentConfig(backbone="dino", weights=str(folder), frozen=frozen, width=16, stride=stride)
    torch.manual_seed(0)
    return build_student(config, DIMENSIONS)


@pytest.mark.parametrize("kind", MODEL_TYPES)
@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (71, 40)])
@torch.no_grad()
def test_embeddings_are_unit_at_the_students_stride(
    folders: dict[str, Path], kind: str, stride: int, height: int, width: int
) -> None:
    z = make_student(folders[kind], stride=stride)(noise(2, height, width))
    assert z.shape == (2, DIMENSIONS, -(-height // stride), -(-width // stride))
    torch.testing.assert_close(z.norm(dim=1), torch.ones_like(z[:, 0]))


@torch.no_grad()
def test_patches_finer_than_the_students_stride_will_do() -> None:
    small = {"model_type": "dinov2", **SHAPES["dinov2"], "patch_size": 4, "image_size": 32}
    student = Embedder(empty_vit({"config": small}), DIMENSIONS, stride=8, width=16)
    assert student(noise(1, 64, 48)).shape == (1, DIMENSIONS, 8, 6)


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_fine_tuning_gives_every_trained_weight_a_gradient(folders: dict[str, Path], kind: str) -> None:
    student = make_student(folders[kind]).train()
    (student(noise(2, 64, 64)) * torch.randn(2, DIMENSIONS, 8, 8, generator=generator(1))).sum().backward()
    trained = {name: parameter for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert set(dict(student.named_parameters())) - set(trained) == {"backbone.model.embeddings.mask_token"}
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_frozen_backbone_has_no_gradient_and_does_not_change(folders: dict[str, Path], kind: str) -> None:
    student, images = make_student(folders[kind], frozen=True).train(), noise(2, 64, 64)
    assert not any(parameter.requires_grad for parameter in student.backbone.parameters())
    assert not any(module.training for module in student.backbone.modules())
    assert student.training
    assert student.head.training
    z = student(images)
    assert z.requires_grad
    graph, seen = [z.grad_fn], set()
    while graph:  # nothing of the backbone was recorded: the graph's leaves are the head's weights
        node = graph.pop()
        if node is not None and node not in seen:
            seen.add(node)
            graph += [after for after, _ in node.next_functions]
    leaves = {id(node.variable) for node in seen if hasattr(node, "variable")}
    assert leaves == {id(parameter) for parameter in student.head.parameters()}
    before = {key: value.clone() for key, value in student.backbone.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=0.1)
    (z * torch.randn(z.shape, generator=generator(1))).sum().backward()
    optimizer.step()
    assert all(torch.equal(before[key], value) for key, value in student.backbone.state_dict().items())
    assert not torch.allclose(student(images), z)


def test_frozen_convolutional_backbone_has_no_gradient() -> None:
    student = build_student(StudentConfig(frozen=True, width=16), DIMENSIONS).train()
    student(noise(1, 64, 64)).sum().backward()
    assert all(parameter.grad is None for parameter in student.backbone.parameters())
    assert all(parameter.grad is not None for parameter in student.head.parameters())


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_or_not_the_embeddings_are_the_same(folders: dict[str, Path], frozen: bool) -> None:
    images = noise(1, 48, 48)
    torch.testing.assert_close(
        make_student(folders["dinov2"], frozen).train()(images), make_student(folders["dinov2"]).eval()(images)
    )


def test_images_are_normalized_as_the_model_was_trained(folder: Path) -> None:
    assert load_dino(str(folder)).mean == IMAGENET_MEAN
    plain = make_student(folder)
    satellite = {"image_mean": [0.43, 0.411, 0.296], "image_std": [0.213, 0.156, 0.143]}
    (folder / "preprocessor_config.json").write_text(json.dumps(satellite))
    student = make_student(folder)
    assert student.backbone.mean == (0.43, 0.411, 0.296)
    assert student.backbone.std == (0.213, 0.156, 0.143)
    images = noise(1, 48, 48)
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in satellite.values())
    as_imagenet = (images - mean) / std * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    as_imagenet = as_imagenet + torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    torch.testing.assert_close(student(images), plain(as_imagenet), rtol=1e-4, atol=1e-5)


# ----------------------------------------------------------------------------------------------------- checkpoints


def run_config(folder: Path, frozen: bool = False) -> Config:
    student = ["student.backbone=dino", f"student.weights={folder}", f"student.frozen={str(frozen).lower()}"]
    return load_config("cpu", [*student, "student.width=16"])


@pytest.mark.parametrize("kind", MODEL_TYPES)
@pytest.mark.parametrize("frozen", [False, True])
def test_checkpoint_needs_neither_the_folder_nor_a_network(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, frozen: bool
) -> None:
    folder = Path(shutil.copytree(folders[kind], tmp_path / "model"))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3]}))
    config, student = run_config(folder, frozen), make_student(folder, frozen)
    save_checkpoint(tmp_path / "run", 3, config, student, make_prototypes(), {}, 1)
    shutil.rmtree(folder)
    monkeypatch.setattr(AutoModel, "from_pretrained", None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    loaded, images = load_checkpoint(tmp_path / "run").student, noise(1, 50, 70)
    assert loaded.frozen == frozen
    assert loaded.backbone.architecture == student.backbone.architecture
    ours, theirs = loaded.state_dict(), student.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    with torch.no_grad():
        assert torch.equal(loaded(images), student.eval()(images))


@pytest.mark.parametrize("frozen", [False, True])
def test_run_trains_what_it_should(
    folder: Path, images: Path, tiny_config: Config, tmp_path: Path, frozen: bool
) -> None:
    published = load_file(folder / "model.safetensors")
    student = {"backbone": "dino", "weights": str(folder), "frozen": frozen, "width": 16}
    config = parse_config(tiny_config.model_dump() | {"student": student}, "test")
    train(sorted(images.iterdir()), load_classes("cat,cup"), config, tmp_path / "run", device="cpu")
    backbone = load_checkpoint(tmp_path / "run").student.backbone.state_dict()
    changed = {key for key, value in published.items() if not torch.equal(backbone[f"model.{key}"], value)}
    assert changed == (set() if frozen else set(published) - {"embeddings.mask_token"})


def test_card_without_the_architecture_is_a_damaged_checkpoint(folders: dict[str, Path], tmp_path: Path) -> None:
    student = make_student(folders["dinov2"])
    path = save_checkpoint(tmp_path, 3, run_config(folders["dinov2"]), student, make_prototypes(), {}, 1)
    card = json.loads((path / "card.json").read_text())
    del card["backbone"]
    (path / "card.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="damaged checkpoint"):
        load_checkpoint(tmp_path)
    card["backbone"] = {"config": {"model_type": "clip"}}
    (path / "card.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="type 'clip'"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_architecture_is_plain_json_and_builds_the_same_network(folders: dict[str, Path], kind: str) -> None:
    backbone = load_dino(str(folders[kind]))
    architecture = json.loads(json.dumps(backbone.architecture))
    built = empty_vit(architecture)
    assert built.architecture == architecture
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in backbone.state_dict().items()}
    assert architecture["config"]["model_type"] == kind
    assert str(folders[kind]) not in json.dumps(architecture)


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_weights_keep_the_names_of_published_files(folders: dict[str, Path], kind: str) -> None:
    """transformers renames weights as it reads them; a checkpoint must not depend on how this release does."""
    published = load_file(folders[kind] / "model.safetensors")
    sample = {
        "dinov2": "encoder.layer.5.attention.attention.query.weight",
        "dinov2_with_registers": "encoder.layer.5.attention.attention.query.weight",
        "dinov3_vit": "layer.5.attention.q_proj.weight",
    }
    assert sample[kind] in published
    state = load_dino(str(folders[kind])).state_dict()
    assert state.keys() == {f"model.{key}" for key in published}
    assert all(torch.equal(state[f"model.{key}"], value) for key, value in published.items())
    other = empty_vit({"config": {"model_type": kind, **SHAPES[kind]}})
    assert other.load_state_dict(state, strict=True) == ([], [])
    assert all(
        torch.equal(a, b) for a, b in zip(other.parameters(), load_dino(str(folders[kind])).parameters(), strict=True)
    )
    del state["model.embeddings.cls_token"]
    with pytest.raises(RuntimeError, match="cls_token"):
        other.load_state_dict(state)


def test_random_is_a_vit_s_14() -> None:
    backbone = load_backbone("dino", "random")
    assert isinstance(backbone, DinoViT)
    assert backbone.strides == (14,) * 4
    assert backbone.channels == (384,) * 4
    # 22.06 M of the published ViT-S/14 at 518 pixels, to the mask token
    assert sum(p.numel() for p in backbone.parameters()) == pytest.approx(22.06e6, rel=2e-3)


# --------------------------------------------------------------------------------------------------------- folders


def test_load_dino_sound_folder_prints_nothing(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    load_dino(str(folders["dinov2"]))
    assert capfd.readouterr() == ("", "")


def test_half_precision_weights_become_float32(folders: dict[str, Path], folder: Path) -> None:
    AutoModel.from_pretrained(folder).bfloat16().save_pretrained(folder)
    backbone = load_dino(str(folder))
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    assert empty_vit(backbone.architecture).state_dict().keys() == backbone.state_dict().keys()


def test_sharded_weights_are_read(folders: dict[str, Path], tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(folders["dinov3_vit"])
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours, theirs = load_dino(str(tmp_path)).model.state_dict(), model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_classifiers_head_is_left_aside(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = {f"dinov2.{key}": value for key, value in load_file(path).items()}
    save_file(
        state | {"classifier.weight": torch.ones(5, 64), "classifier.bias": torch.ones(5)}, path, {"format": "pt"}
    )
    loaded = load_dino(str(folder)).state_dict()
    assert all(torch.equal(loaded[f"model.{key.removeprefix('dinov2.')}"], value) for key, value in state.items())


def test_folder_of_another_model_is_named(tmp_path: Path) -> None:
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    CLIPVisionModel(CLIPVisionConfig(**small, image_size=32, patch_size=16)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"type 'clip_vision_model'; backbone dino takes dinov2, dinov2_with_registers"):
        load_dino(str(tmp_path))


def test_code_in_a_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    (folder / "trap.py").write_text(f"open({str(sprung)!r}, 'w')\nclass Trap: pass\n")
    change_config(folder, auto_map={"AutoConfig": "trap.Trap", "AutoModel": "trap.Trap"})
    assert isinstance(load_dino(str(folder)), DinoViT)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no config", r"holds no config\.json"),
        ("no json", r"config\.json: not readable as JSON"),
        ("a list", r"config\.json: not an object of JSON"),
        ("no weights", r"holds no model\.safetensors"),
        ("pickled", r"holds no model\.safetensors; other formats"),
        ("cut", r"the weights cannot be read \(SafetensorError"),
        ("lacks", r"lacks 1 weights of Dinov2Model, e\.g\. encoder\.layer\.3"),
        ("too many", r"has unknown 1 weights of Dinov2Model, e\.g\. other"),
        ("shape", r"the weights cannot be read"),
        ("wrong value", r"not a readable dinov2 configuration"),
        ("grey", r"reads 1 channels"),
        ("oblong", r"in patches of \[7, 14\]"),
        ("no numbers", r"preprocessor_config\.json: image_mean = 'red' is not three numbers"),
    ],
)
def test_what_is_wrong_with_a_folder_raises_in_one_line(
    folder: Path, change: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    config, weights = folder / "config.json", folder / "model.safetensors"
    state = load_file(weights)
    if change == "no config":
        config.unlink()
    elif change in {"no json", "a list"}:
        config.write_text("{" if change == "no json" else "[]")
    elif change in {"no weights", "pickled"}:
        weights.unlink()
        if change == "pickled":
            torch.save(state, folder / "pytorch_model.bin")
    elif change == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif change == "lacks":
        del state["encoder.layer.3.norm1.weight"]
        save_file(state, weights, {"format": "pt"})
    elif change == "too many":
        save_file(state | {"other.weight": torch.ones(1)}, weights, {"format": "pt"})
    elif change == "shape":
        save_file(state | {"layernorm.weight": torch.ones(5)}, weights, {"format": "pt"})
    elif change == "no numbers":
        (folder / "preprocessor_config.json").write_text('{"image_mean": "red"}')
    else:
        values: dict[str, dict[str, object]] = {
            "wrong value": {"num_hidden_layers": "many"},
            "grey": {"num_channels": 1},
            "oblong": {"patch_size": [7, 14], "image_size": [70, 70]},
        }
        change_config(folder, **values[change])
        if change != "wrong value":  # weights that fit, so that the shape itself is what is wrong
            model = AutoModel.from_config(CONFIG_MAPPING["dinov2"](**SHAPES["dinov2"] | values[change]))
            model.save_pretrained(folder)
            capfd.readouterr()
    with pytest.raises(UserError, match=message) as caught:
        load_dino(str(folder))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_transformers_too_old_for_the_model_reports_so(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    known = {kind: CONFIG_MAPPING[kind] for kind in ("dinov2", "dinov2_with_registers")}
    monkeypatch.setattr(transformers, "CONFIG_MAPPING", known)
    with pytest.raises(UserError, match=r"transformers \S+ knows no dinov3_vit; pip install --upgrade transformers"):
        load_dino(str(folders["dinov3_vit"]))


# ------------------------------------------------------------------------------------------------------------- hub


@pytest.mark.parametrize("name", ["gone", "/a/b/gone", "a/b/c", "", "owner/model.safetensors", "https://x.y/z"])
def test_what_is_neither_folder_nor_hub_id_sends_no_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    with pytest.raises(UserError, match=r"no such folder; give the folder of a DINOv2 or DINOv3 model"):
        load_dino(name)


def test_file_is_no_folder(folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_dino(str(folders["dinov2"] / "model.safetensors"))


@pytest.mark.parametrize(("given", "revision"), [("some/dinov2", "main"), ("some/dinov2@v1", "v1")])
def test_load_dino_hub_id_fetches_no_pickled_weights(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, revision: str
) -> None:
    with HubServer() as server:
        commit = server.add("some/dinov2", folders["dinov2"], revision)
        server.files["some/dinov2"][commit]["pytorch_model.bin"] = b"pickled"
        use_server(server, tmp_path, monkeypatch)
        assert isinstance(load_dino(given), DinoViT)
        assert server.asked("GET", "pytorch_model.bin") == 0


def test_load_dino_unreachable_hub_raises_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer() as server:
        use_server(server, tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"some/dinov2: the hub cannot be reached .*give the folder") as caught:
        load_dino("some/dinov2")
    assert "\n" not in str(caught.value)
