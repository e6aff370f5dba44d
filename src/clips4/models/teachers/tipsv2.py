"""TIPS v2 as a dense teacher.

Cao et al., "TIPSv2: Advancing Vision-Language Pretraining with Enhanced Patch-Text Alignment" (CVPR 2026): a vision
transformer with a class token, a register and layer scale, trained so that patches too lie near the texts; nothing
projects them. With x the tokens that enter the last block, s_1, s_2 its layer scales, the patches become

    maskclip   y = x + s_1 O W_v LN_1 x        z = y + s_2 MLP(LN_2 y)     as its authors segment by text
    vanilla    the last block as trained

and the final norm follows. Text has no marks of beginning and end: a vector is the mean over its tokens.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.teachers.model_files import PREPROCESSING, ModelFiles
from clips4.models.teachers.text.tokenizer import load_own_tokenizer
from clips4.models.teachers.vlm import Origin, VisionLanguageTeacher, load_complete, model_class

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # it takes images in [0, 1] as they are
_KINDS = ("maskclip", "vanilla")


class Tipsv2Teacher(VisionLanguageTeacher):
    """A frozen TIPS v2 with MaskCLIP's values in its last block.

    Args:
        model: a ``Tipsv2Model``.
        tokenizer: its tokenizer, which writes lower case itself.
        settings: dense attention ("maskclip" or "vanilla"), precision and windows.
        origin: where the model comes from.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: TeacherConfig, origin: Origin):
        vision, self._kind = model.config.vision_config, settings.dense_attention or "maskclip"
        super().__init__(model, tokenizer, settings, origin, self._kind, vision.patch_size, vision.hidden_size)

    def _tokens(self, pixels: Tensor, with_keys: bool = False) -> tuple[Tensor, Tensor | None]:
        vision = self.model.vision_model
        *layers, last = vision.encoder.layer
        x = vision.embeddings(pixels)
        for layer in layers:
            x = layer(x)
        first = 1 + vision.config.num_register_tokens
        z = last(x)[:, first:] if self._kind == "vanilla" else read_values(last, x[:, first:])
        return vision.layernorm(z), last.attention.k_proj(last.norm1(x[:, first:])) if with_keys else None

    def _clean(self, text: str) -> str:
        return text

    def _tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        text = self.model.config.text_config
        length = text.max_position_embeddings
        tokens = self._tokenizer(list(prompts), truncation=True, max_length=length)["input_ids"]
        # the last token of a shorter text pads it
        return [each if len(each) == length else [*each, text.pad_token_id] for each in tokens]

    def _text_features(self, ids: Tensor) -> Tensor:
        counted = (ids != self.model.config.text_config.pad_token_id).long()
        return self.model.text_model(input_ids=ids, attention_mask=counted).pooler_output


def read_values(layer: Any, x: Tensor) -> Tensor:
    """The patches after a block in which each attends to itself alone: (B, N, W) -> (B, N, W).

    Args:
        layer: the last ``Tipsv2VisionLayer``.
        x: the patches that enter it.
    """
    y = x + layer.layer_scale1(layer.attention.o_proj(layer.attention.v_proj(layer.norm1(x))))
    return y + layer.layer_scale2(layer.mlp(layer.norm2(y)))


def load_tipsv2(files: ModelFiles, settings: TeacherConfig) -> Tipsv2Teacher:
    """The teacher in a TIPS v2 model's folder, as transformers saves it.

    Raises:
        UserError: another dense attention, a configuration of TIPS's own code, weights or tokenizer missing or wrong,
            or a transformers that is too old.
    """
    if settings.dense_attention not in (None, *_KINDS):
        raise UserError(
            f"teacher.dense_attention = {settings.dense_attention}: its source changes CLIP; TIPS v2 takes "
            f"{' or '.join(_KINDS)}"
        )
    if not all(files.config.get(f"{tower}_config") for tower in ("vision", "text")):
        raise UserError(
            f"teacher {files.name}: its config.json is of TIPS's own code (no vision_config, no text_config); take a "
            "revision that transformers saved"
        )
    model = load_complete(model_class(files, "Tipsv2Model"), files)
    tokenizer = load_own_tokenizer(files.folder, files.name, model.config.text_config.vocab_size)
    normalized = bool(files.read_json(PREPROCESSING).get("do_normalize"))
    origin = Origin.of(files, MEAN, STD) if normalized else Origin.checked(files, MEAN, STD)
    return Tipsv2Teacher(model, tokenizer, settings, origin)
