"""EfficientNet-Lite0: Liu (2020), "Higher accuracy on vision models with EfficientNet-Lite"; Tan & Le (ICML 2019)."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from clips4.models.backbones.base import Backbone, dilated_strides


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


_LITE0_STEM = 32
_LITE0_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_LITE0_LEVELS = (1, 2, 4, 6)  # the last stage at each of the strides 4, 8, 16, 32


class SamePadConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads "SAME" on sizes that the stride divides: the odd pixel goes after."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, dilation=dilation, groups=groups, bias=False)
        total = dilation * (kernel - 1) - (stride - 1)
        before = total // 2
        self._pad = (before, total - before, before, total - before)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self._pad))


def _lite_norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise kxk, project 1x1, with a residual where the shape allows one (MobileNetV2)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, dilation: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        self.expand = None if expansion == 1 else nn.Conv2d(inputs, hidden, 1, bias=False)
        self.expand_norm = None if expansion == 1 else _lite_norm(hidden)
        self.depthwise = SamePadConv(hidden, hidden, kernel, stride, dilation, groups=hidden)
        self.depthwise_norm = _lite_norm(hidden)
        self.project = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.project_norm = _lite_norm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expand is not None and self.expand_norm is not None:
            y = F.relu6(self.expand_norm(self.expand(y)))
        y = F.relu6(self.depthwise_norm(self.depthwise(y)))
        y = self.project_norm(self.project(y))
        return x + y if self.residual else y


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 without its classifier (3.4 M parameters).

    Args:
        output_stride: 32 as published; 16 or 8 replace the last strides by dilation.
    """

    channels = (24, 40, 112, 320)
    # the statistics this network was trained with; ImageNet's usual ones cost it 10 points of accuracy
    mean = (0.498, 0.498, 0.498)
    std = (0.502, 0.502, 0.502)

    def __init__(self, output_stride: int = 32):
        super().__init__()
        self.strides = dilated_strides(output_stride)
        self.stem = SamePadConv(3, _LITE0_STEM, 3, stride=2)
        self.stem_norm = _lite_norm(_LITE0_STEM)
        stages, width, reached, dilation = [], _LITE0_STEM, 2, 1
        for stage in _LITE0_STAGES:
            blocks = []
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                entry_dilation = dilation
                if stride * reached > output_stride:
                    dilation, stride = dilation * stride, 1
                reached *= stride
                # the block whose stride was replaced keeps the old dilation
                block_dilation = entry_dilation if index == 0 else dilation
                blocks.append(
                    InvertedResidual(width, stage.width, stage.kernel, stride, block_dilation, stage.expansion)
                )
                width = stage.width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = F.relu6(self.stem_norm(self.stem(images)))
        levels = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _LITE0_LEVELS:
                levels.append(x)
        a, b, c, d = levels
        return a, b, c, d


class EfficientNetLite0Classifier(nn.Module):
    """EfficientNet-Lite0 with its ImageNet classifier, applied to the whole image or at every position.

    Args:
        output_stride: see ``EfficientNetLite0``.
    """

    def __init__(self, output_stride: int = 32, classes: int = 1000):
        super().__init__()
        self.backbone = EfficientNetLite0(output_stride)
        self.head = nn.Conv2d(self.backbone.channels[-1], 1280, 1, bias=False)
        self.head_norm = _lite_norm(1280)
        self.classifier = nn.Linear(1280, classes)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalized -> (B, 1280, h, w), the maps that the classifier averages."""
        return self.head_features(self.backbone(images)[-1])

    def head_features(self, c5: Tensor) -> Tensor:
        """The backbone's last level (B, 320, h, w) -> (B, 1280, h, w), the maps that the classifier averages."""
        return F.relu6(self.head_norm(self.head(c5)))

    def classify(self, features: Tensor) -> Tensor:
        """(B, 1280, h, w) -> (B, classes, h, w): the linear classifier applied at each position."""
        return F.conv2d(features, self.classifier.weight[:, :, None, None], self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalized -> (B, classes)."""
        return self.classifier(self.features(images).mean((2, 3)))
