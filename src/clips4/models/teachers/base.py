"""The Teacher protocol and the table of teachers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.errors import UserError, UserTypeError
from clips4.models.teachers.model_files import ModelFiles, find_model, is_model_name


@runtime_checkable
class Teacher(Protocol):
    """A frozen vision-language model: text and pixels in one joint space of D dimensions.

    Implementations are in eval mode and never pass a gradient.

    Attributes:
        name: what ``load_teacher`` takes; with ``settings`` it identifies the teacher's outputs.
        settings: what else its outputs depend on, as JSON-ready values (caches are keyed by it).
        embed_dim: D.
        patch_stride: pixels of the given image per position of the pixel map.

    Example:
        >>> teacher = load_teacher("conse")
        >>> isinstance(teacher, Teacher), teacher.embed_dim
        (True, 384)
    """

    name: str
    settings: dict[str, object]
    embed_dim: int
    patch_stride: int

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Text vectors of prompts.

        Args:
            prompts: K texts.

        Returns:
            (K, D) unit rows.

        Example:
            >>> load_teacher("conse").encode_text(["a cat", "a dog"]).shape
            torch.Size([2, 384])
        """
        ...

    def encode_pixels(self, images: Tensor) -> Tensor:
        """The pixel maps of images.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            (B, D, h, w), unit vectors along D.

        Example:
            >>> import torch
            >>> load_teacher("conse").encode_pixels(torch.rand(1, 3, 64, 96)).shape
            torch.Size([1, 384, 2, 3])
        """
        ...

    def unknown_terms(self, texts: Sequence[str]) -> list[str]:
        """The words that its text model does not know, see ``tokenizer.unknown_terms``.

        Args:
            texts: class names or prompts.

        Returns:
            Those words, in order.

        Example:
            >>> load_teacher("conse").unknown_terms(["a cat"])
            []
        """
        ...

    def to(self, device: torch.device) -> "Teacher":
        """Move to a device, in place.

        Args:
            device: of PyTorch.

        Returns:
            The teacher itself.

        Example:
            >>> import torch
            >>> load_teacher("conse").to(torch.device("cpu")).name
            'conse'
        """
        ...


def _conse(settings: TeacherConfig) -> Teacher:
    from clips4.models.teachers.conse import ConseTeacher

    if settings.dense_attention is not None:
        raise UserError(f"teacher.dense_attention = {settings.dense_attention}: conse has none; use a CLIP teacher")
    return ConseTeacher(confidence_dim=settings.confidence_dim, hypernyms=settings.hypernyms)


def _clip(files: ModelFiles, settings: TeacherConfig) -> Teacher:
    from clips4.models.teachers.clip import load_clip

    return load_clip(files, settings)


def _metaclip_2(files: ModelFiles, settings: TeacherConfig) -> Teacher:
    from clips4.models.teachers.clip import load_metaclip_2

    return load_metaclip_2(files, settings)


def _open_clip(files: ModelFiles, settings: TeacherConfig) -> Teacher:
    from clips4.models.teachers.eva import has_eva_tower, load_eva
    from clips4.models.teachers.open_clip import load_open_clip

    return (load_eva if has_eva_tower(files) else load_open_clip)(files, settings)


def _siglip(files: ModelFiles, settings: TeacherConfig) -> Teacher:
    from clips4.models.teachers.siglip import load_siglip

    return load_siglip(files, settings)


def _tipsv2(files: ModelFiles, settings: TeacherConfig) -> Teacher:
    from clips4.models.teachers.tipsv2 import load_tipsv2

    return load_tipsv2(files, settings)


_TEACHERS: dict[str, Callable[[TeacherConfig], Teacher]] = {"conse": _conse}
_MODEL_TYPES: dict[str, Callable[[ModelFiles, TeacherConfig], Teacher]] = {
    "clip": _clip,
    "metaclip_2": _metaclip_2,
    "siglip": _siglip,
    "siglip2": _siglip,  # NaFlex; SigLIP 2 of fixed resolution calls itself siglip
    "tipsv2": _tipsv2,
}
_INSTEAD = "take a SigLIP 2, a TIPS v2 or a CLIP"
_NO_TEXT = (
    f"is a DINO without a text tower, and dino.txt's is published as pickled weights for its own code; {_INSTEAD}"
)
_PERCEPTION = f"is a Perception Encoder of videos and sound, whose tower of images is timm's; {_INSTEAD}"
_REFUSED = {
    "clip_text_model": "has no vision tower; take the whole CLIP model",
    "clip_vision_model": "has no text tower; take the whole CLIP model",
    **dict.fromkeys(("dinov2", "dinov2_with_registers", "dinov3_vit", "dinov3_convnext"), _NO_TEXT),
    **dict.fromkeys(("pe_audio", "pe_audio_video", "pe_video"), _PERCEPTION),
}


def teacher_names() -> list[str]:
    """Names of the built-in teachers; ``load_teacher`` also takes folders and hub ids."""
    return sorted(_TEACHERS)


def load_teacher(teacher: str | Path | TeacherConfig) -> Teacher:
    """The teacher of that name, frozen.

    Args:
        teacher: a built-in name, a folder that ``save_pretrained`` wrote or one in open_clip's format, or a hub id
            ``owner/name[@revision]``; or the settings that hold one of these. docs/how-to/teachers.md lists the models.

    Returns:
        The teacher, on the CPU.

    Raises:
        UserError: no such teacher, or its weights or tokenizer are not there, or not what they should be.
        UserTypeError: none of these forms.

    Example:
        >>> load_teacher("conse")
        ConseTeacher(conse, 384 dimensions, stride 32)
    """
    if not isinstance(teacher, (str, Path, TeacherConfig)):
        raise UserTypeError(f"a teacher is a name, a folder or a TeacherConfig, got {type(teacher).__name__}")
    settings = teacher if isinstance(teacher, TeacherConfig) else TeacherConfig(name=str(teacher))
    name = settings.name
    if name in _TEACHERS:
        return _TEACHERS[name](settings)
    if not is_model_name(name):
        known = ", ".join(teacher_names())
        raise UserError(f"unknown teacher {name!r}; there is {known}, a saved model's folder, or a hub id owner/name")
    files = find_model(name)
    if files.open_clip:
        return _open_clip(files, settings)
    kind = files.config.get("model_type")
    if not isinstance(kind, str) or kind not in _MODEL_TYPES:
        why = _REFUSED.get(
            str(kind), f"is a {repr(kind)[:80]}, no CLIP; a teacher's model_type is one of {', '.join(_MODEL_TYPES)}"
        )
        raise UserError(f"teacher {name}: {why}")
    return _MODEL_TYPES[kind](files, settings)


def pinned(given: TeacherConfig, saved: TeacherConfig) -> TeacherConfig:
    """The given settings with the saved name where that is the given name pinned: a run resumes with its own weights.

    A hub id is pinned to the commit it referred to when the run started, even if it has moved on since; a folder to its
    absolute path.
    """
    repository, _, commit = saved.name.partition("@")
    same = (commit and given.name == repository) or str(Path(given.name).resolve()) == saved.name
    return given.model_copy(update={"name": saved.name}) if same else given
