"""SigLIP 2 as a dense teacher.

Tschannen et al., "SigLIP 2" (2025). SigLIP has no class token: a head pools the patches by attention from a learned
probe, and only what leaves that head lies in the space of the texts. The one dense attention that keeps every trained
part on the way into that space is MaskCLIP's idea, applied to the head instead of the last block: the head's attention
output is replaced by its own value path at each patch, residual and MLP kept,

    y = O W_v h,        z = y + MLP(LN y)        with h the patches after the tower's final norm,

which is the head's output if the probe attended to that patch alone. sclip, clearclip and naclip change the self
attention that feeds CLIP's class token, and vanilla tokens never pass the head: for SigLIP they are refused.

NaFlex models (``model_type: siglip2``) take an image of any aspect as a list of its patches; their positions are
interpolated to its grid, and the head is the same.
"""

import string
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.teachers.model_files import ModelFiles
from clips4.models.teachers.text.tokenizer import load_own_tokenizer
from clips4.models.teachers.vlm import Origin, VisionLanguageTeacher, load_complete

MEAN = STD = (0.5, 0.5, 0.5)
_SIGLIP_1_VOCABULARY = 32000
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def canonical(text: str) -> str:
    """A prompt as SigLIP's zero-shot evaluation writes it: lower case, spaces for underscores, no ASCII punctuation.

    Source: ``_canonicalize`` of big_vision's ``evaluators/proj/image_text/prompt_engineering.py``.

    Example:
        >>> canonical("A photo of a T-shirt, on a dining_table.")
        'a photo of a tshirt on a dining table'
    """
    return " ".join(text.replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


class SiglipTeacher(VisionLanguageTeacher):
    """A frozen SigLIP 2 of fixed resolution, its pooling head read at every patch.

    Args:
        model: a ``SiglipModel`` with a pooling head.
        tokenizer: its tokenizer.
        settings: precision and windows; dense attention is maskclip.
        origin: where the model comes from.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: TeacherConfig, origin: Origin):
        vision = model.config.vision_config
        super().__init__(model, tokenizer, settings, origin, "maskclip", vision.patch_size, vision.hidden_size)
        self.text_settings["prompts"] = "canonical"  # vectors of prompts with punctuation, in older caches, differ

    def _tokens(self, pixels: Tensor, with_keys: bool = False) -> tuple[Tensor, Tensor | None]:
        head, h = self.model.vision_model.head, self._patches(pixels)
        return read_head(head, h), _part(head.attention, h, 1) if with_keys else None

    def _patches(self, pixels: Tensor) -> Tensor:
        """Normalized pixels (B, 3, H, W) -> patches after the tower's final norm (B, N, W)."""
        return self.model.vision_model(pixels, interpolate_pos_encoding=True).last_hidden_state

    def _clean(self, text: str) -> str:
        return canonical(text)

    def _tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        length = self.model.config.text_config.max_position_embeddings
        return self._tokenizer(
            [self._clean(prompt) for prompt in prompts], padding="max_length", truncation=True, max_length=length
        )["input_ids"]

    def _text_features(self, ids: Tensor) -> Tensor:
        return self.model.text_model(input_ids=ids).pooler_output


class NaflexTeacher(SiglipTeacher):
    """A frozen SigLIP 2 NaFlex, which was trained on images of many aspects and sizes; the rest is as in SigLIP 2.

    Args:
        model: a ``Siglip2Model`` with a pooling head.
        tokenizer, settings, origin: see ``SiglipTeacher``.
    """

    def _patches(self, pixels: Tensor) -> Tensor:
        height, width = self._grid(pixels)
        side = self.patch_stride
        cut = pixels.unflatten(-1, (width, side)).unflatten(-3, (height, side))  # (B, 3, h, side, w, side)
        patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(len(pixels), height * width, -1)
        grids = torch.tensor([[height, width]] * len(pixels), device=pixels.device)
        # by position: versions of transformers name the mask differently; None, since no patch is padding
        return self.model.vision_model(patches, None, grids).last_hidden_state


def load_siglip(files: ModelFiles, settings: TeacherConfig) -> SiglipTeacher:
    """The teacher in a SigLIP 2 model's folder, of fixed resolution or NaFlex.

    Raises:
        UserError: dense attention other than maskclip, a SigLIP 1, no pooling head, or another model's tokenizer.
    """
    from transformers import Siglip2Model, SiglipModel

    naflex = files.config.get("model_type") == "siglip2"
    if settings.dense_attention not in (None, "maskclip"):
        raise UserError(
            f"teacher.dense_attention = {settings.dense_attention}: SigLIP has no class token, so "
            "only maskclip applies to it"
        )
    model = load_complete(Siglip2Model if naflex else SiglipModel, files)
    if model.config.text_config.vocab_size == _SIGLIP_1_VOCABULARY:
        raise UserError(f"teacher {files.name}: is a SigLIP 1, whose tokenizer is not read here; take a SigLIP 2")
    if not hasattr(model.vision_model, "head"):
        raise UserError(f"teacher {files.name}: has no pooling head, so its patches do not lie in the texts' space")
    tokenizer = load_own_tokenizer(files.folder, files.name, model.config.text_config.vocab_size)
    teacher = NaflexTeacher if naflex else SiglipTeacher
    return teacher(model, tokenizer, settings, Origin.of(files, MEAN, STD))


def read_head(head: Any, h: Tensor) -> Tensor:
    """The pooling head's answer were each patch the only one: (B, N, W) -> (B, N, W)."""
    y = head.attention.out_proj(_part(head.attention, h, 2))
    return y + head.mlp(head.layernorm(y))


def _part(attention: Any, h: Tensor, part: int) -> Tensor:
    """Query (0), key (1) or value (2) of a ``torch.nn.MultiheadAttention``, all heads side by side."""
    weight, bias = attention.in_proj_weight.chunk(3)[part], attention.in_proj_bias.chunk(3)[part]
    return F.linear(h, weight, bias)
