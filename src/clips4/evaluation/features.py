"""Pixel features to be compared by one protocol: the student's, those of the backbone it started from, raw colour.

Each is a function of a picture, (H, W, 3) uint8 -> (D, h, w) unit along D, that reads it at the same size and answers
at the same stride, so that what differs is the features alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from skimage.color import rgb2lab
from torch import Tensor

from clips4.checkpoints import load_checkpoint
from clips4.config import StudentConfig
from clips4.devices import pick_device
from clips4.errors import UserError
from clips4.images import RGB, reduce_to, resize_map, to_tensor
from clips4.student.embedder import MIDDLE, hypercolumn
from clips4.student.weights import load_backbone

KINDS = ("student", "student-hypercolumn", "backbone", "backbone-mid", "backbone-hypercolumn", "colour")
# levels of the ImageNet backbone
_LEVELS = {"backbone": (-1,), "backbone-mid": (MIDDLE,), "backbone-hypercolumn": (-1, MIDDLE)}
_MIN_SIDE = 32  # networks want a few positions; a smaller picture is enlarged for them
STRIDE = 8  # pixels of the read picture per position of the features, for those that have no stride of their own


@dataclass(frozen=True)
class PixelFeatures:
    """Features of pictures.

    Attributes:
        name: of the row.
        long_side: pictures are reduced to it before they are read.
        compute: (1, 3, H, W) in [0, 1] -> (1, D, h, w), unit along D.
    """

    name: str
    long_side: int
    compute: Callable[[Tensor], Tensor]
    device: torch.device

    @torch.no_grad()
    def __call__(self, picture: RGB) -> Tensor:
        """(H, W, 3) uint8 -> (D, h, w) float32, unit along D."""
        images = to_tensor(reduce_to(picture, self.long_side))[None].to(self.device)
        height, width = images.shape[-2:]
        if min(height, width) < _MIN_SIDE:
            images = resize_map(images, (max(height, _MIN_SIDE), max(width, _MIN_SIDE)))
        return self.compute(images)[0].float()


def load_features(kind: str, run: Path | None, long_side: int, device: str = "auto") -> PixelFeatures:
    """Features of one kind.

    Args:
        kind: "student" (z of a run), "backbone" and "backbone-mid" (the last and the stride-16 level of the ImageNet
            backbone that the run's student started from, as it was before training), "student-hypercolumn" and
            "backbone-hypercolumn" (z, and the last level, each with the stride-16 level of its own network beside it),
            or "colour" (Lab and a constant).
        run: a run; needed for the student; the backbone is the default one without.
        long_side: of the picture as read.

    Raises:
        UserError: no such kind, or no run where one is needed.
    """
    where = pick_device(device)
    if kind == "colour":
        return PixelFeatures(kind, long_side, lambda images: colour(images).to(where), where)
    if kind not in KINDS:
        raise UserError(f"features {kind!r}: there is {', '.join(KINDS)}")
    if kind in _LEVELS:
        config = load_checkpoint(run).config.student if run else StudentConfig()
        return PixelFeatures(kind, long_side, _backbone(config, _LEVELS[kind], where), where)
    if run is None:
        raise UserError(f"features {kind!r} are those of a run; give one")
    student = load_checkpoint(run).student.to(where)
    return PixelFeatures(kind, long_side, student if kind == "student" else student.hypercolumn, where)


def _backbone(config: StudentConfig, levels: tuple[int, ...], device: torch.device) -> Callable[[Tensor], Tensor]:
    backbone = load_backbone(config.backbone, config.weights, config.output_stride).eval().to(device)
    mean = torch.tensor(backbone.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std, device=device).view(1, 3, 1, 1)

    def compute(images: Tensor) -> Tensor:
        found = backbone((images - mean) / std)
        return hypercolumn([found[level] for level in levels], _size(images))

    return compute


def colour(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, 4, h, w) unit: the mean Lab colour of each block, in tenths, and a constant.

    The constant keeps greys apart from one another when only the direction counts: with 10 units of Lab for every unit
    of the constant, colours 10 apart lie about as far as orthogonal ones where both are near grey.
    """
    small = F.interpolate(images, _size(images), mode="area")
    lab = torch.from_numpy(rgb2lab(small.permute(0, 2, 3, 1).cpu().numpy())).permute(0, 3, 1, 2).float()
    centred = (lab - torch.tensor([50.0, 0.0, 0.0]).view(1, 3, 1, 1)) / 10
    return F.normalize(torch.cat([centred, torch.ones_like(centred[:, :1])], 1), dim=1)


def _size(images: Tensor) -> tuple[int, int]:
    height, width = images.shape[-2:]
    return -(-height // STRIDE), -(-width // STRIDE)
