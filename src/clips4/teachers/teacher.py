"""The Teacher protocol and the table of teachers."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from clips4.errors import UserError


@runtime_checkable
class Teacher(Protocol):
    """A frozen vision-language model: text and pixels in one joint space of D dimensions.

    Implementations are in eval mode and never pass a gradient.

    Attributes:
        name: what ``load_teacher`` takes; with ``settings`` it identifies the teacher's outputs.
        settings: what else its outputs depend on, as JSON-ready values (caches are keyed by it).
        embed_dim: D.
        patch_stride: pixels of the given image per position of the pixel map.
    """

    name: str
    settings: dict[str, object]
    embed_dim: int
    patch_stride: int

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """K prompts -> (K, D) unit rows."""
        ...

    def encode_pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w), unit vectors along D."""
        ...

    def to(self, device: torch.device) -> "Teacher":
        """Move to a device, in place."""
        ...


def _conse() -> Teacher:
    from clips4.teachers.conse import ConseTeacher

    return ConseTeacher()


_TEACHERS: dict[str, Callable[[], Teacher]] = {"conse": _conse}


def teacher_names() -> list[str]:
    """Names that ``load_teacher`` knows."""
    return sorted(_TEACHERS)


def load_teacher(name: str) -> Teacher:
    """The teacher of that name, frozen.

    Raises:
        UserError: no such teacher, or its weights are not installed.
    """
    if name not in _TEACHERS:
        raise UserError(f"unknown teacher {name!r}; there is {', '.join(teacher_names())}")
    return _TEACHERS[name]()
