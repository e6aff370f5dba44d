"""A self-supervised backbone whose similarities of positions are used in place of the teacher's own.

DINO's features say which parts of an image belong together far better than those of a vision-language model, which are
trained to match texts: ProxyCLIP's attention and LPOSS's graph come from them.
"""

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clips4.models.backbones.base import Backbone


class Proxy(nn.Module):
    """Images to unit features at every patch, frozen.

    Args:
        backbone: whose last level is taken.

    Attributes:
        stride: pixels of the image per position.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone, self.stride = backbone, backbone.strides[-1]
        self.register_buffer("_mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, C, h, w) float32, unit along C."""
        normalized = (images.float() - self._mean) / self._std
        return F.normalize(self.backbone(normalized)[-1].float(), dim=1)

    def fingerprint(self) -> str:
        """A hash of its weights, wherever they came from; another network never has it."""
        digest = hashlib.sha256()
        for name, value in sorted(self.backbone.state_dict().items()):
            digest.update(f"{name} {tuple(value.shape)} ".encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:40]
