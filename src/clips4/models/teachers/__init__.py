"""Teachers: frozen vision-language models that read text and pixels into one space; nothing that is trained."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clips4.models.teachers.base import Teacher, load_teacher

__all__ = ["Teacher", "load_teacher"]


def __getattr__(name: str) -> object:
    # on first use, so that importing a module beside this file loads no torch that it does not need
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("clips4.models.teachers.base"), name)
