"""clips4: CLIP-S4, language-guided self-supervised semantic segmentation.

>>> from clips4 import Segmenter
>>> segmenter = Segmenter.load("runs/demo")
>>> result = segmenter.segment("photo.jpg", classes=["cat", "sofa"])
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clips4.config import Config, load_config
    from clips4.data.class_names import ClassList, load_classes
    from clips4.errors import UserError
    from clips4.inference.segmenter import Segmentation, Segmenter
    from clips4.models.hub import push_to_hub, save_pretrained
    from clips4.models.teachers.base import Teacher, load_teacher
    from clips4.training.loop import train

__version__ = "0.1.0"

# loaded when asked for, so that `import clips4` and `clips4 --help` cost nothing
_HOME = {
    "ClassList": "clips4.data.class_names",
    "Config": "clips4.config",
    "Segmentation": "clips4.inference.segmenter",
    "Segmenter": "clips4.inference.segmenter",
    "Teacher": "clips4.models.teachers",
    "UserError": "clips4.errors",
    "load_classes": "clips4.data.class_names",
    "load_config": "clips4.config",
    "load_teacher": "clips4.models.teachers",
    "push_to_hub": "clips4.models.hub",
    "save_pretrained": "clips4.models.hub",
    "train": "clips4.training.loop",
}

__all__ = [
    "ClassList",
    "Config",
    "Segmentation",
    "Segmenter",
    "Teacher",
    "UserError",
    "__version__",
    "load_classes",
    "load_config",
    "load_teacher",
    "push_to_hub",
    "save_pretrained",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'clips4' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
