"""CLIP as a dense teacher: any checkpoint of transformers' CLIPModel, with ``dense_attention`` in its last block.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021). The activation
(OpenAI's QuickGELU, or GELU) is the one that the checkpoint's config names.

MetaCLIP 2 (Chuang et al., "Meta CLIP 2: A Worldwide Scaling Recipe", 2025) has the same vision tower; its text tower
reads XLM-V's tokens of texts in any language, as they are.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.backbones.proxy import Proxy
from clips4.models.pretrained import load_proxy
from clips4.models.teacher_trunk import ClipTrunk
from clips4.models.teachers.attention.dense_attention import (
    apply_last_block,
    entering_tokens,
    last_keys,
    tokens_before_last,
)
from clips4.models.teachers.attention.proxy_attention import apply_proxy_attention
from clips4.models.teachers.attention.self_calibration import apply_self_calibration
from clips4.models.teachers.model_files import ModelFiles
from clips4.models.teachers.text.tokenizer import clean, clip_tokens, load_clip_tokenizer, load_own_tokenizer
from clips4.models.teachers.vlm import Origin, VisionLanguageTeacher, load_complete, model_class

# of CLIP's own preprocessing, the default where a folder has none
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ClipTeacher(VisionLanguageTeacher):
    """A frozen CLIP with dense attention in its last block.

    Args:
        model: a ``CLIPModel``.
        tokenizer: CLIP's.
        settings: dense attention, precision and windows.
        origin: where the model comes from.
        proxy: whose similarities are the attention of proxyclip.

    Raises:
        ValueError: proxyclip without a proxy.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: TeacherConfig, origin: Origin, proxy: Proxy | None = None):
        self._dense_attention = settings.dense_attention or "maskclip"
        patch_size, embed_dim = model.config.vision_config.patch_size, model.config.projection_dim
        super().__init__(model, tokenizer, settings, origin, self._dense_attention, patch_size, embed_dim)
        self.proxy = proxy
        if self._dense_attention == "proxyclip":
            if proxy is None:
                raise ValueError("proxyclip takes its attention from a proxy")
            self.settings["proxy"] = proxy.fingerprint()

    @property
    def trunk(self) -> ClipTrunk:
        """Its image network, which a student can share.

        Raises:
            UserError: its dense attention takes more than the last block.
        """
        kind = self._dense_attention
        if kind == "proxyclip" or kind == "sc-clip":
            more = "a second network" if kind == "proxyclip" else "several blocks together"
            raise UserError(
                f"teacher.dense_attention = {kind}: takes {more}, so that neither a residual student nor affinity can "
                "read its network; choose another"
            )
        vision, projection = self.model.vision_model, self.model.visual_projection
        mean, std = (tuple(each.flatten().tolist()) for each in (self._mean, self._std))
        return ClipTrunk(vision, projection, kind, mean, std)

    def _tokens(self, pixels: Tensor, with_keys: bool = False) -> tuple[Tensor, Tensor | None]:
        vision = self.model.vision_model
        layer, grid = vision.encoder.layers[-1], self._grid(pixels)
        of_all = self._dense_attention == "sc-clip"  # the others have no use for the tokens of earlier blocks
        entering = entering_tokens(vision, pixels) if of_all else [tokens_before_last(vision, pixels)]
        x = entering[-1]
        if self._dense_attention == "proxyclip":
            assert self.proxy is not None
            tokens = apply_proxy_attention(layer, x, self.proxy(pixels.float() * self._std + self._mean), grid)
        elif self._dense_attention == "sc-clip":
            tokens = apply_self_calibration(layer, entering, grid)
        else:
            tokens = apply_last_block(layer, x, self._dense_attention, grid)
        tokens = self.model.visual_projection(vision.post_layernorm(tokens))
        return tokens, last_keys(layer, x) if with_keys else None

    def _clean(self, text: str) -> str:
        return clean(text)

    def _tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        return clip_tokens(self._tokenizer, prompts, self.model.config.text_config.max_position_embeddings)

    def _text_features(self, ids: Tensor) -> Tensor:
        # attention is causal and the first end mark is taken, so padding after it changes nothing
        return self.model.text_projection(self.model.text_model(input_ids=ids).pooler_output)


class MetaClip2Teacher(ClipTeacher):
    """A frozen MetaCLIP 2 with dense attention in its last block.

    Args:
        model: a ``MetaClip2Model``.
        tokenizer: XLM-V's; it keeps case and normalizes Unicode and spaces itself.
        settings, origin: see ``ClipTeacher``.
    """

    def _clean(self, text: str) -> str:
        return text

    def _tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        length = self.model.config.text_config.max_position_embeddings
        return self._tokenizer(list(prompts), truncation=True, max_length=length)["input_ids"]


def load_metaclip_2(files: ModelFiles, settings: TeacherConfig) -> MetaClip2Teacher:
    """The teacher in a MetaCLIP 2 model's folder.

    Raises:
        UserError: a tower or the tokenizer is missing or wrong, or transformers is too old.
    """
    _check_towers(files)
    model = load_complete(model_class(files, "MetaClip2Model"), files)
    text = model.config.text_config
    tokenizer = load_own_tokenizer(files.folder, files.name, text.vocab_size)
    if (end := tokenizer("a")["input_ids"][-1]) != text.eos_token_id:
        raise UserError(
            f"teacher {files.name}: its tokenizer ends texts with token {end}, its text tower with "
            f"{text.eos_token_id}; copy or download the folder again"
        )
    return MetaClip2Teacher(model, tokenizer, settings, Origin.of(files, MEAN, STD), proxy_of(settings))


def load_clip(files: ModelFiles, settings: TeacherConfig) -> ClipTeacher:
    """The teacher in a CLIP model's folder.

    Raises:
        UserError: a tower or the tokenizer is missing or wrong.
    """
    from transformers import CLIPModel

    _check_towers(files)
    tokenizer = load_clip_tokenizer(files.folder, files.name)
    origin, proxy = Origin.of(files, MEAN, STD), proxy_of(settings)
    return ClipTeacher(load_complete(CLIPModel, files), tokenizer, settings, origin, proxy)


def _check_towers(files: ModelFiles) -> None:
    for tower in ("vision", "text"):
        if not any(files.config.get(key) for key in (f"{tower}_config", f"{tower}_config_dict")):
            raise UserError(f"teacher {files.name}: its config has no {tower} tower; take a model with both")


def proxy_of(settings: TeacherConfig) -> Proxy | None:
    """The proxy of a teacher whose attention needs one.

    Raises:
        UserError: the settings name none, or it cannot be loaded.
    """
    if settings.dense_attention != "proxyclip":
        return None
    if not settings.proxy:
        raise UserError(
            "teacher.dense_attention = proxyclip: takes its attention from a DINOv2 or DINOv3; give its folder or hub "
            "id as teacher.proxy"
        )
    return load_proxy(settings.proxy)
