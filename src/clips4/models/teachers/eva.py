"""EVA02-CLIP as a dense teacher, in open_clip's format: timm's image tower and the plain text tower of CLIP.

Sun et al., "EVA-CLIP: Improved Training Techniques for CLIP at Scale" (2023). The last block is read as MaskCLIP reads
CLIP's: each patch has its own value, through the norm and the projection of the attention, residual and MLP kept. The
rotation of queries and keys plays no part in that. ``vanilla`` is the block as trained.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.backbones.eva_vit import EvaShape, EvaViT
from clips4.models.pretrained import check_weights
from clips4.models.teachers.clip import MEAN, STD
from clips4.models.teachers.model_files import OPEN_CLIP_WEIGHTS, ModelFiles
from clips4.models.teachers.open_clip import check_keys, refused, section, text_config, transformers_weights, whole
from clips4.models.teachers.text.tokenizer import clean, clip_tokens, load_clip_tokenizer
from clips4.models.teachers.vlm import Origin, VisionLanguageTeacher
from clips4.utils.tensors import read_tensors

SHAPES: Mapping[str, EvaShape] = {
    "eva02_base_patch16_clip_224": EvaShape(768, 12, 12, 16, 224),
    "eva02_large_patch14_clip_224": EvaShape(1024, 24, 16, 14, 224),
    "eva02_large_patch14_clip_336": EvaShape(1024, 24, 16, 14, 336),
}
_KINDS = ("maskclip", "vanilla")
_TOWER = {"timm_model_name", "timm_pool", "timm_proj", "image_size"}


class EvaClip(nn.Module):
    """Both towers.

    Args:
        shape: of the vision tower.
        config: ``CLIPTextConfig`` of the text tower.
    """

    def __init__(self, shape: EvaShape, config: Any):
        from transformers import CLIPTextModelWithProjection

        super().__init__()
        text: Any = CLIPTextModelWithProjection(config)
        self.visual, self.length = EvaViT(shape, config.projection_dim), config.max_position_embeddings
        self.text_model, self.text_projection = text.text_model, text.text_projection


class EvaClipTeacher(VisionLanguageTeacher):
    """A frozen EVA02-CLIP with MaskCLIP's values in its last block.

    Args:
        model: with weights.
        tokenizer: CLIP's.
        settings: dense attention ("maskclip" or "vanilla"), precision and windows.
        origin: where the model comes from.
    """

    def __init__(self, model: EvaClip, tokenizer: Any, settings: TeacherConfig, origin: Origin):
        visual, self._kind = model.visual, settings.dense_attention or "maskclip"
        super().__init__(model, tokenizer, settings, origin, self._kind, visual.shape.patch, visual.head.out_features)

    def _tokens(self, pixels: Tensor, with_keys: bool = False) -> tuple[Tensor, Tensor | None]:
        visual = self.model.visual
        last: Any = visual.blocks[-1]
        x, rotation = visual.before_last(pixels)
        z = last(x, rotation)[:, 1:] if self._kind == "vanilla" else last.values(x[:, 1:])
        keys = last.attn.k_proj(last.norm1(x[:, 1:])) if with_keys else None
        return visual.head(visual.norm(z)), keys

    def _clean(self, text: str) -> str:
        return clean(text)

    def _tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        return clip_tokens(self._tokenizer, prompts, self.model.length)

    def _text_features(self, ids: Tensor) -> Tensor:
        return self.model.text_projection(self.model.text_model(input_ids=ids).pooler_output)


def has_eva_tower(files: ModelFiles) -> bool:
    """Whether a folder of open_clip's format has an image tower of ``SHAPES``."""
    model = files.config.get("model_cfg")
    vision = model.get("vision_cfg") if isinstance(model, dict) else None
    return isinstance(vision, dict) and vision.get("timm_model_name") in SHAPES


def load_eva(files: ModelFiles, settings: TeacherConfig) -> EvaClipTeacher:
    """The teacher in a folder of open_clip's format with a tower of ``SHAPES``.

    Raises:
        UserError: another dense attention, a key of another network, weights that do not fit, or a wrong tokenizer.
    """
    from transformers import CLIPTextConfig

    if settings.dense_attention not in (None, *_KINDS):
        raise UserError(
            f"teacher.dense_attention = {settings.dense_attention}: its source changes CLIP; EVA-CLIP takes "
            f"{' or '.join(_KINDS)}"
        )
    model = section(files, "", "model_cfg", files.config)
    vision = section(files, "model_cfg", "vision_cfg", model)
    shape = SHAPES[vision["timm_model_name"]]
    check_keys(files, "model_cfg", model, {"embed_dim", "vision_cfg", "text_cfg", "custom_text"})
    check_keys(files, "vision_cfg", vision, _TOWER)
    # its head is the projection; open_clip's defaults would add another one after an average
    for key, value, expected in (("timm_pool", "avg", "token"), ("timm_proj", "linear", None)):
        if (vision.get(key, value) or None) != expected:
            raise refused(files, "vision_cfg", key, vision.get(key, value))
    if whole(files, "vision_cfg", vision, {"image_size": shape.image}, "image_size") != shape.image:
        raise refused(files, "vision_cfg", "image_size", vision["image_size"])
    dims = whole(files, "model_cfg", model, {}, "embed_dim")
    tokenizer = load_clip_tokenizer(files.folder, files.name)
    towers = EvaClip(shape, CLIPTextConfig(**text_config(files, model), hidden_act="gelu", projection_dim=dims))
    weights = _renamed(read_tensors(files.folder / OPEN_CLIP_WEIGHTS))
    check_weights(towers, weights, f"teacher {files.name}, {OPEN_CLIP_WEIGHTS}")
    towers.load_state_dict(weights)
    preprocessing = section(files, "", "preprocess_cfg", files.config)
    origin = Origin.checked(files, preprocessing.get("mean") or MEAN, preprocessing.get("std") or STD)
    return EvaClipTeacher(towers, tokenizer, settings, origin)


def _renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of ``EvaClip``, in float32; the scale of the logits is left out."""
    visual = {key: value for key, value in weights.items() if key.startswith("visual.")}
    others = {key.removeprefix("text."): value for key, value in weights.items() if key not in visual}
    others.pop("logit_scale", None)
    named = {key.replace("visual.trunk.", "visual.", 1): value for key, value in visual.items()}
    return {key: value.float() for key, value in (named | transformers_weights(others)).items()}
