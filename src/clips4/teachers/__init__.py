"""Teachers: frozen vision-language models read densely, and ``load_teacher``."""

from clips4.teachers.teacher import Teacher, load_teacher, pinned, teacher_names

__all__ = ["Teacher", "load_teacher", "pinned", "teacher_names"]
