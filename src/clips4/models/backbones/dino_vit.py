"""DINOv2 and DINOv3 vision transformers, by the library transformers.

Oquab et al. (TMLR 2024), Darcet et al. (ICLR 2024), Siméoni et al. (2025).

The four levels are the patch tokens after a quarter, half, three quarters and all of the blocks, each under the model's
own final norm: of twelve blocks 3, 6, 9 and 12, those that DINOv2's dense heads read.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clips4.errors import UserError
from clips4.models.backbones.base import Backbone
from clips4.utils.tensors import resize_map

MODEL_TYPES = ("dinov2", "dinov2_with_registers", "dinov3_vit")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = {
    "config": {
        "model_type": "dinov2",
        "hidden_size": 384,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "image_size": 518,
        "patch_size": 14,
    }
}  # the shape of DINOv2 ViT-S/14: what "random" weights are given

# what a transformers configuration holds beside the network's shape
_NOT_SHAPE = frozenset(
    {"_name_or_path", "architectures", "auto_map", "dtype", "id2label", "label2id", "torch_dtype"}
    | {"stage_names", "out_features", "out_indices", "transformers_version", "quantization_config"}
)


class DinoViT(Backbone):
    """A DINOv2 (with registers or without) or DINOv3 ViT.

    An image whose sides are no multiples of the patch is resized to the nearest that are, so that the maps cover the
    whole image and nothing else. Dropout, stochastic depth and DINOv3's random scaling of positions are off in
    training too: both views of an image must be encoded the same way, with true positions.

    Args:
        model: of one of the ``MODEL_TYPES``.
        mean, std: statistics by which its training images were normalized.

    Raises:
        UserError: a model whose patches are not square, or which does not read RGB.
    """

    def __init__(self, model: Any, mean: tuple[float, float, float], std: tuple[float, float, float]):
        super().__init__()
        self.model = model.float().eval()
        self.mean, self.std = mean, std
        config = model.config
        self._patch = _patch_side(config)
        self._prefix = 1 + getattr(config, "num_register_tokens", 0)  # class token and registers come first
        depth, width = config.num_hidden_layers, config.hidden_size
        self.depths = [-(-depth * quarter // 4) for quarter in (1, 2, 3)]
        self.channels, self.strides = (width,) * 4, (self._patch,) * 4
        if model.embeddings.mask_token is not None:
            model.embeddings.mask_token.requires_grad_(False)  # only pretraining uses it
        self._recomputed: list[nn.Module] = []
        self._hub_names = hub_names(model)
        self.register_state_dict_post_hook(_save_by_hub_names)
        self.register_load_state_dict_pre_hook(_load_by_hub_names)

    @property
    def architecture(self) -> dict[str, Any]:
        """``config`` of transformers, ``mean`` and ``std``; ``empty_vit`` takes it."""
        config = {key: value for key, value in self.model.config.to_diff_dict().items() if key not in _NOT_SHAPE}
        return {"config": config, "mean": list(self.mean), "std": list(self.std)}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, H, W) normalized -> four maps (B, width, round(H / patch), round(W / patch)), at least 1 x 1."""
        rows, columns = (_patches(side, self._patch) for side in images.shape[-2:])
        size = rows * self._patch, columns * self._patch
        images = resize_map(images, size)
        output = self.model(images, output_hidden_states=True, return_dict=True)
        norm = self.model.norm if hasattr(self.model, "norm") else self.model.layernorm
        tokens = [norm(output.hidden_states[depth]) for depth in self.depths]
        # releases of transformers differ in whether the last hidden state is under the norm; this one always is
        tokens.append(output.last_hidden_state)
        a, b, c, d = (t[:, self._prefix :].unflatten(1, (rows, columns)).permute(0, 3, 1, 2) for t in tokens)
        return a, b, c, d

    def recompute(self) -> None:
        """Keep the input of each block alone and compute the rest again in the backward pass: less memory, more time.

        Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016).
        """
        earlier = self.model.gradient_checkpointing_enable  # before transformers 5 renamed it
        getattr(self.model, "activation_checkpointing_enable", earlier)({"use_reentrant": False})
        self._recomputed = [block for block in self.model.modules() if getattr(block, "gradient_checkpointing", False)]
        self.train(self.training)

    def train(self, mode: bool = True) -> "DinoViT":
        super().train(mode)
        self.model.eval()
        for block in self._recomputed:
            block.training = mode  # of the block alone: what it holds, such as dropout, stays off
        return self


def hub_names(model: Any) -> dict[str, str]:
    """The name of each weight in the files that its authors published, by its name in the model.

    transformers 5 renames weights as it reads them, and each release may do so in another way. Checkpoints keep the
    published names, so that they outlive the release they were written with.

    Raises:
        UserError: this transformers changes more than names.
    """
    own = model.state_dict()
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # version 4 keeps the published names
        return {key: key for key in own}
    model._weight_conversions = None  # those of its type, not those of the file it was read from
    key_of = {id(value): key for key, value in own.items()}
    names = {key_of.get(id(value)): hub for hub, value in revert_weight_conversion(model, own).items()}
    if names.keys() != own.keys():
        from transformers import __version__

        raise UserError(f"transformers {__version__} reshapes the weights of {type(model).__name__}; install 5.23")
    return {key: names[key] for key in own}


def _save_by_hub_names(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    _rename(state, {f"{prefix}model.{own}": f"{prefix}model.{hub}" for own, hub in module._hub_names.items()})  # type: ignore[operator, union-attr]


def _load_by_hub_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    _rename(state, {f"{prefix}model.{hub}": f"{prefix}model.{own}" for own, hub in module._hub_names.items()})  # type: ignore[operator, union-attr]


def _rename(state: dict[str, Any], names: Mapping[str, str]) -> None:
    state.update({new: state.pop(old) for old, new in names.items() if old in state})


def _patches(side: int, patch: int) -> int:
    """side / patch rounded (halves up), at least 1; in whole numbers only, which may be symbols when exported."""
    return torch.sym_max(1, (2 * side + patch) // (2 * patch))


def _patch_side(config: Any) -> int:
    sides = config.patch_size if isinstance(config.patch_size, (list, tuple)) else [config.patch_size]
    if len(set(sides)) != 1 or config.num_channels != 3:
        raise UserError(
            f"the {config.model_type} model reads {config.num_channels} channels in patches of {config.patch_size}; "
            "a backbone reads 3 channels in square patches"
        )
    return int(sides[0])


def one_line(error: Exception) -> str:
    """The kind of an error, and its message on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def vit_config(values: Mapping[str, Any], source: object) -> Any:
    """The transformers configuration of a ``config.json``'s values.

    Raises:
        UserError: of another type of model than ``MODEL_TYPES``, or of one that this transformers does not know.
    """
    from transformers import CONFIG_MAPPING, __version__

    kind = values.get("model_type")
    if kind not in MODEL_TYPES:
        raise UserError(f"{source}: holds a model of type {kind!r}; backbone dino takes {', '.join(MODEL_TYPES)}")
    if kind not in CONFIG_MAPPING:
        raise UserError(f"{source}: transformers {__version__} knows no {kind}; pip install --upgrade transformers")
    shape = {key: value for key, value in values.items() if key not in _NOT_SHAPE | {"model_type"}}
    try:
        return CONFIG_MAPPING[kind](**shape)
    except Exception as error:  # each transformers has checks and errors of its own
        raise UserError(f"{source}: not a readable {kind} configuration ({one_line(error)})")


def empty_vit(architecture: Mapping[str, Any], source: object = "backbone") -> DinoViT:
    """A ViT of an ``architecture`` with random weights, to be loaded from elsewhere; reads no file.

    Raises:
        UserError: see ``vit_config``.
    """
    from transformers import AutoModel

    model = AutoModel.from_config(vit_config(architecture["config"], source), trust_remote_code=False)
    mean_r, mean_g, mean_b = architecture.get("mean", IMAGENET_MEAN)
    std_r, std_g, std_b = architecture.get("std", IMAGENET_STD)
    return DinoViT(model, (mean_r, mean_g, mean_b), (std_r, std_g, std_b))
