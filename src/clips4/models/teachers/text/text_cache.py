"""Class vectors on disk: the prompts of a class list are encoded once per teacher."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from clips4.data.class_names import ClassList
from clips4.models.calibrated_teacher import CalibratedTeacher
from clips4.models.teachers.base import Teacher
from clips4.models.teachers.text.prompts import class_vectors
from clips4.utils.cache import cache_root, settings_key
from clips4.utils.tensors import read_cached, write_cached

_LISTED = 10  # words in a warning


def warn_of_unknown_terms(teacher: Teacher, classes: ClassList) -> None:
    """Warn of words in class names that the teacher's text model does not know: their vectors mean nothing."""
    if terms := teacher.unknown_terms([alias for aliases in classes.aliases for alias in aliases]):
        shown = ", ".join(map(repr, terms[:_LISTED])) + (f" and {len(terms) - _LISTED} more" if terms[_LISTED:] else "")
        warnings.warn(
            f"words that the text model of {teacher.name} does not know: {shown}; check the spelling, or use others",
            stacklevel=2,
        )


def cached_class_vectors(
    teacher: Teacher, classes: ClassList, templates: Sequence[str], root: Path | None = None
) -> Tensor:
    """``prompts.class_vectors``, kept in a file that is named by what it depends on.

    That is the teacher's weights, the words of all classes in their order, and the templates; not the classes' names,
    and not how images are encoded. A damaged file is replaced.

    Args:
        teacher: encodes what is not cached yet; of a calibrated one, raw vectors are cached.
        classes: K classes.
        templates: strings with one ``{}``.
        root: cache folder; ``utils.cache.cache_root()`` by default.

    Returns:
        (K, D) float32 unit rows on the CPU.
    """
    if isinstance(teacher, CalibratedTeacher):
        return teacher.space.calibrate_text(cached_class_vectors(teacher.teacher, classes, templates, root))
    settings = getattr(teacher, "text_settings", teacher.settings)
    key = settings_key(
        {"name": teacher.name, **settings, "words": classes.aliases, "templates": list(templates), "format": 1}
    )
    path = (root or cache_root()) / "text" / f"{key}.safetensors"
    vectors = read_cached(path, "text")
    if vectors is None or vectors.shape != (len(classes), teacher.embed_dim):
        vectors = class_vectors(teacher, classes, templates).float().cpu()
        write_cached(path, "text", vectors)
    return vectors
