"""Backbones by the names that the configuration has for them."""

from collections.abc import Callable

from clips4.models.backbones.base import Backbone
from clips4.models.backbones.efficientnet import EfficientNetLite0
from clips4.models.backbones.resnet import ResNet50, ResNet101

# by name; built for an output stride of 8, 16 or 32
CONVOLUTIONAL: dict[str, Callable[[int], Backbone]] = {
    "efficientnet-lite0": EfficientNetLite0,
    "resnet50": ResNet50,
    "resnet101": ResNet101,
}
DINO = "dino"  # any DINOv2 or DINOv3 ViT; the weights decide which
