"""CLIPs in open_clip's own format: ``open_clip_config.json`` and ``open_clip_model.safetensors``.

open_clip's plain ViT is the network of transformers' ``CLIPModel`` under other names: the three projections of an
attention are one matrix, and the projections to the joint space are stored transposed. Its configuration can describe
many other towers; a key that changes what the network computes, and that ``CLIPModel`` cannot express, is refused.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.pretrained import check_weights
from clips4.models.teachers.clip import MEAN, STD, ClipTeacher, proxy_of
from clips4.models.teachers.model_files import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, ModelFiles
from clips4.models.teachers.text.tokenizer import VOCABULARY, load_clip_tokenizer
from clips4.models.teachers.vlm import Origin, load_complete
from clips4.utils.tensors import read_tensors
from clips4.utils.text import printable

# open_clip's defaults of the keys that are read
_VISION = {"layers": 12, "width": 768, "head_width": 64, "mlp_ratio": 4.0, "patch_size": 16, "image_size": 224}
_TEXT = {"layers": 12, "width": 512, "heads": 8, "mlp_ratio": 4.0, "context_length": 77, "vocab_size": VOCABULARY}
# names that a plain CLIP has for what it does; any other value of any other key is refused unless it is switched off
_PLAIN = {("vision_cfg", "pool_type"): ("tok",), ("text_cfg", "pool_type"): ("argmax", "eos")}
_PLAIN |= {("vision_cfg", "pos_embed_type"): ("learnable",), ("text_cfg", "proj_type"): ("linear",)}
# of training and of outputs, or of a part that another key switches on
_WITHOUT_EFFECT = re.compile(
    "patch_dropout|output_tokens|output_dict|pad_id|attn_pooler_.*|timm_(?!model_name).*|hf_(?!model_name).*|"
    "cast_dtype|init_logit_scale|nonscalar_logit_scale"
)

# image towers of timm, by the beginning of their names
_TIMM = {
    "vit_pe_": "a Perception Encoder",
    "eva": "an EVA-CLIP",
    "fastvit": "a MobileCLIP",
    "convnext": "a ConvNeXt CLIP",
}

_TOP = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.proj": "visual_projection.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text_projection": "text_projection.weight",
}
_NORMS = {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}
_NORMS |= {"ln_final": "text_model.final_layer_norm"}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)")
_PARTS = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
_PARTS |= {"attn.out_proj": "self_attn.out_proj"}


def load_open_clip(files: ModelFiles, settings: TeacherConfig) -> ClipTeacher:
    """The teacher in a folder of open_clip's format.

    Raises:
        UserError: no plain ViT CLIP, weights that do not fit the configuration, or a tokenizer missing or wrong.
    """
    from transformers import CLIPModel

    config = transformers_config(files)
    tokenizer = load_clip_tokenizer(files.folder, files.name)
    weights = transformers_weights(read_tensors(files.folder / OPEN_CLIP_WEIGHTS))
    with torch.device("meta"):
        check_weights(CLIPModel(config), weights, f"teacher {files.name}, {OPEN_CLIP_WEIGHTS}")
    preprocessing = section(files, "", "preprocess_cfg", files.config)
    mean, std = preprocessing.get("mean") or MEAN, preprocessing.get("std") or STD
    origin = Origin.checked(files, mean, std)
    return ClipTeacher(
        load_complete(CLIPModel, files, config, weights), tokenizer, settings, origin, proxy_of(settings)
    )


def transformers_config(files: ModelFiles) -> Any:
    """The ``CLIPConfig`` of an ``open_clip_config.json``.

    Raises:
        UserError: a key that only another network than a plain ViT CLIP has; the message names it.
    """
    from transformers import CLIPConfig

    model = section(files, "", "model_cfg", files.config)
    vision = section(files, "model_cfg", "vision_cfg", model)
    if tower := str(vision.get("timm_model_name") or ""):  # the first key to name, of several
        kind = next((kind for start, kind in _TIMM.items() if tower.startswith(start)), "a model")
        raise UserError(
            f"teacher {files.name}: {OPEN_CLIP_CONFIG} has vision_cfg.timm_model_name = {printable(repr(tower)[:80])}: "
            f"{kind} whose image tower is timm's, not read here; take a CLIP with a plain ViT, an EVA02-CLIP B or "
            "L, a SigLIP 2 or a TIPS v2"
        )
    check_keys(files, "model_cfg", model, {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"})
    check_keys(files, "vision_cfg", vision, _VISION.keys())
    of_text = text_config(files, model)
    dims = whole(files, "model_cfg", model, {}, "embed_dim")
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    of_vision = {
        **_tower(files, "vision_cfg", vision, _VISION),
        "image_size": whole(files, "vision_cfg", vision, _VISION, "image_size"),
        "patch_size": whole(files, "vision_cfg", vision, _VISION, "patch_size"),
    }
    shared = {"hidden_act": activation, "projection_dim": dims}
    return CLIPConfig(text_config=of_text | shared, vision_config=of_vision | shared, projection_dim=dims)


def text_config(files: ModelFiles, model: Mapping[str, Any]) -> dict[str, Any]:
    """The ``CLIPTextConfig`` of a plain text tower, without activation and joint space.

    Args:
        files: of the model.
        model: the section ``model_cfg``.

    Raises:
        UserError: a key of another tower; the message names it.
    """
    text = section(files, "model_cfg", "text_cfg", model)
    check_keys(files, "text_cfg", text, _TEXT.keys())
    if whole(files, "text_cfg", text, _TEXT, "vocab_size") != VOCABULARY:
        raise refused(files, "text_cfg", "vocab_size", text["vocab_size"])
    return {
        **_tower(files, "text_cfg", text, _TEXT),
        "max_position_embeddings": whole(files, "text_cfg", text, _TEXT, "context_length"),
        "vocab_size": VOCABULARY,
        "bos_token_id": VOCABULARY - 2,
        "eos_token_id": VOCABULARY - 1,
        "pad_token_id": VOCABULARY - 1,
    }


def check_keys(files: ModelFiles, path: str, part: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse a section with a key that is not known and would change what the network computes.

    Raises:
        UserError: the message names the key.
    """
    for key in part.keys() - set(known):
        if part[key] and part[key] not in _PLAIN.get((path, key), ()) and not _WITHOUT_EFFECT.fullmatch(key):
            raise refused(files, path, key, part[key])


def transformers_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's tensors under the names of ``CLIPModel``; those that it does not have keep theirs."""
    return {name: tensor for key, value in weights.items() for name, tensor in _renamed(key, value)}


def _renamed(key: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    norm, _, parameter = key.rpartition(".")
    block = _BLOCK.fullmatch(key)
    if key in _TOP:
        yield _TOP[key], value.T.contiguous() if key in ("visual.proj", "text_projection") else value
    elif norm in _NORMS:
        yield f"{_NORMS[norm]}.{parameter}", value
    elif block and (block[3] in _PARTS or block[3] == "attn.in_proj"):
        layer = f"{'vision' if block[1] else 'text'}_model.encoder.layers.{block[2]}"
        if block[3] in _PARTS:
            yield f"{layer}.{_PARTS[block[3]]}.{block[4]}", value
        else:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                yield f"{layer}.self_attn.{part}_proj.{block[4]}", rows.contiguous()
    elif key == "logit_scale":
        yield key, value.reshape(())
    else:
        yield key, value


def _tower(files: ModelFiles, path: str, given: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """What both towers have: width, layers, heads, and the width of the MLP."""
    width = whole(files, path, given, default, "width")
    key = "heads" if "heads" in default else "head_width"
    heads = whole(files, path, given, default, key)
    if width % heads:
        raise refused(files, path, key, heads)
    ratio = given.get("mlp_ratio", default["mlp_ratio"])
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio < 100:
        raise refused(files, path, "mlp_ratio", ratio)
    return {
        "hidden_size": width,
        "num_hidden_layers": whole(files, path, given, default, "layers"),
        "num_attention_heads": heads if key == "heads" else width // heads,
        "intermediate_size": int(width * ratio),
    }


def whole(files: ModelFiles, path: str, given: Mapping[str, Any], default: Mapping[str, Any], key: str) -> int:
    """A positive whole number; a side may be given twice, for height and width.

    Raises:
        UserError: it is something else.
    """
    value = given.get(key, default.get(key))
    side = value[0] if key.endswith("_size") and isinstance(value, list) and value[1:] == value[:1] else value
    if isinstance(side, bool) or not isinstance(side, int) or not 0 < side < 10**6:
        raise refused(files, path, key, value)
    return side


def section(files: ModelFiles, path: str, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A section of the configuration; empty where it is missing.

    Raises:
        UserError: it is something else.
    """
    section = values.get(key, {})
    if not isinstance(section, dict):
        raise refused(files, path, key, section)
    return section


def refused(files: ModelFiles, path: str, key: str, value: object) -> UserError:
    """The error that names a key of another network."""
    return UserError(
        f"teacher {files.name}: {OPEN_CLIP_CONFIG} has {f'{path}.{key}'.lstrip('.')} = {printable(repr(value)[:80])}; "
        "of open_clip's models only plain ViTs and EVA02-CLIPs with CLIP's own text tower are supported"
    )
