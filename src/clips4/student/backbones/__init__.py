"""Backbones: images to feature maps at four levels of detail.

Every backbone is a module with these attributes, which is all that the student's head and the built-in teacher use:

- ``channels``: width of the four levels;
- ``strides``: pixels of the picture per position of each level;
- ``mean``, ``std``: statistics by which its training pictures were normalised;
- ``architecture``: what a checkpoint's card keeps so that the network can be built anew, None where the configuration
  says it all;
- ``forward(images)``: (B, 3, H, W) normalised -> four maps (B, channels[i], ~H / strides[i], ~W / strides[i]).

Convolutional networks have levels at strides 4 to 32, and output strides that bound the coarsest by dilation. A vision
transformer has one stride, its patch: its levels are four depths.
"""

from collections.abc import Callable

from clips4.student.backbones.base import Backbone, dilated_strides
from clips4.student.backbones.efficientnet import EfficientNetLite0, EfficientNetLite0Classifier, SamePadConv
from clips4.student.backbones.resnet import ResNet50, ResNet101
from clips4.student.backbones.vit import DinoViT

__all__ = [
    "CONVOLUTIONAL",
    "DINO",
    "Backbone",
    "DinoViT",
    "EfficientNetLite0",
    "EfficientNetLite0Classifier",
    "ResNet50",
    "ResNet101",
    "SamePadConv",
    "dilated_strides",
]

# by name; built for an output stride of 8, 16 or 32
CONVOLUTIONAL: dict[str, Callable[[int], Backbone]] = {
    "efficientnet-lite0": EfficientNetLite0,
    "resnet50": ResNet50,
    "resnet101": ResNet101,
}
DINO = "dino"  # any DINOv2 or DINOv3 ViT; which one, its weights say
