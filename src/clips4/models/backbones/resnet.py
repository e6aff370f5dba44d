"""ResNet-50 and ResNet-101, dilated as in DeepLab: He et al. (CVPR 2016); Chen et al. (TPAMI 2018)."""

import torch.nn.functional as F
from torch import Tensor, nn

from clips4.models.backbones.base import Backbone, dilated_strides


class Bottleneck(nn.Module):
    """The bottleneck block of ResNet (stride in the 3x3), with torchvision's names."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int):
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(Backbone):
    """A bottleneck ResNet with the last strides replaced by dilation; key names are torchvision's.

    Args:
        output_stride: 8 as in DeepLab and in CLIP-S4's lineage; 16 or 32 cost less.
    """

    blocks: tuple[int, int, int, int]
    channels = (256, 512, 1024, 2048)
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, output_stride: int = 8):
        super().__init__()
        self.strides = dilated_strides(output_stride)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self._inputs, self._dilation, self._reached = 64, 1, 4
        self.layer1 = self._layer(64, self.blocks[0], 1, output_stride)
        self.layer2 = self._layer(128, self.blocks[1], 2, output_stride)
        self.layer3 = self._layer(256, self.blocks[2], 2, output_stride)
        self.layer4 = self._layer(512, self.blocks[3], 2, output_stride)

    def _layer(self, width: int, blocks: int, stride: int, output_stride: int) -> nn.Sequential:
        entry_dilation = self._dilation
        if self._reached * stride > output_stride:
            self._dilation, stride = self._dilation * stride, 1
        self._reached *= stride
        layers = [Bottleneck(self._inputs, width, stride, entry_dilation)]
        self._inputs = width * Bottleneck.expansion
        layers += [Bottleneck(self._inputs, width, 1, self._dilation) for _ in range(blocks - 1)]
        return nn.Sequential(*layers)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.maxpool(F.relu(self.bn1(self.conv1(images))))
        a = self.layer1(x)
        b = self.layer2(a)
        c = self.layer3(b)
        return a, b, c, self.layer4(c)


class ResNet50(ResNet):
    """ResNet-50 (23.5 M parameters)."""

    blocks = (3, 4, 6, 3)


class ResNet101(ResNet):
    """ResNet-101 (42.5 M parameters)."""

    blocks = (3, 4, 23, 3)
