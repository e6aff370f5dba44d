"""CLIP-S4: language-guided self-supervised semantic segmentation.

Example:
    >>> from clips4 import Segmenter
    >>> segmenter = Segmenter.load("runs/demo")
    >>> result = segmenter.segment("photo.jpg", classes=["cat", "sofa"])

The names in ``__all__`` are the public interface. Modules are imported by their room, e.g. ``clips4.method.losses``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clips4.config import Config, load_config
    from clips4.data.class_names import ClassList, load_classes
    from clips4.errors import UserError
    from clips4.inference.encoding.tta import InferenceOptions
    from clips4.inference.result import Segmentation
    from clips4.inference.segmenter import Segmenter
    from clips4.inference.video.label_propagation import propagate_masks
    from clips4.models.hub import push_to_hub, save_pretrained
    from clips4.models.onnx.export import export_onnx
    from clips4.models.teachers.base import Teacher, load_teacher
    from clips4.training.recipe import train

__version__ = "0.1.0"

__all__ = [
    "ClassList",
    "Config",
    "InferenceOptions",
    "Segmentation",
    "Segmenter",
    "Teacher",
    "UserError",
    "__version__",
    "export_onnx",
    "load_classes",
    "load_config",
    "load_teacher",
    "propagate_masks",
    "push_to_hub",
    "save_pretrained",
    "train",
]

# imported on first use, so that `import clips4` and `clips4 --help` load nothing heavy
_MODULES = {
    "ClassList": "clips4.data.class_names",
    "Config": "clips4.config",
    "InferenceOptions": "clips4.inference.encoding.tta",
    "Segmentation": "clips4.inference.result",
    "Segmenter": "clips4.inference.segmenter",
    "Teacher": "clips4.models.teachers.base",
    "UserError": "clips4.errors",
    "export_onnx": "clips4.models.onnx.export",
    "load_classes": "clips4.data.class_names",
    "load_config": "clips4.config",
    "load_teacher": "clips4.models.teachers.base",
    "propagate_masks": "clips4.inference.video.label_propagation",
    "push_to_hub": "clips4.models.hub",
    "save_pretrained": "clips4.models.hub",
    "train": "clips4.training.recipe",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'clips4' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
