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

from clips4.config import StudentConfig
from clips4.errors import UserError
from clips4.models.checkpoint import load_checkpoint
from clips4.models.pretrained import load_backbone
from clips4.models.student import EMBEDDING, LEVELS, hypercolumn
from clips4.utils.devices import pick_device
from clips4.utils.images import RGB, reduce_to
from clips4.utils.tensors import resize_map, to_tensor

COLOUR, STUDENT, BACKBONE = "colour", "student", "backbone"
# kinds with a name of their own; any other choice of parts is written as on the right
NAMED = {
    STUDENT: f"{STUDENT}:{EMBEDDING}",
    "student-hypercolumn": f"{STUDENT}:{EMBEDDING}+c4",
    BACKBONE: f"{BACKBONE}:c5",
    "backbone-mid": f"{BACKBONE}:c4",
    "backbone-hypercolumn": f"{BACKBONE}:c5+c4",
}
KINDS = (*NAMED, COLOUR)
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
    def __call__(self, image: RGB) -> Tensor:
        """(H, W, 3) uint8 -> (D, h, w) float32, unit along D."""
        images = to_tensor(reduce_to(image, self.long_side))[None].to(self.device)
        height, width = images.shape[-2:]
        if min(height, width) < _MIN_SIDE:
            images = resize_map(images, (max(height, _MIN_SIDE), max(width, _MIN_SIDE)))
        return self.compute(images)[0].float()


def parse_kind(kind: str) -> tuple[str, tuple[str, ...]]:
    """Whose features, and which parts side by side: "student:z+c3+c4" -> ("student", ("z", "c3", "c4")).

    Raises:
        UserError: neither one of ``KINDS`` nor written so, a part twice, or z of a backbone.
    """
    network, _, listed = NAMED.get(kind, kind).partition(":")
    parts = tuple(listed.split("+"))
    allowed = {STUDENT: (EMBEDDING, *LEVELS), BACKBONE: LEVELS}.get(network, ())
    if not set(parts) <= set(allowed) or len(set(parts)) < len(parts):
        raise UserError(
            f"features {kind!r}: there is {', '.join(KINDS)}; or student:PARTS with some of z, {', '.join(LEVELS)} "
            "joined by +, as in student:z+c3+c4, and backbone:PARTS likewise without z"
        )
    return network, parts


def load_features(kind: str, run: Path | None, long_side: int, device: str = "auto") -> PixelFeatures:
    """Features of one kind.

    Args:
        kind: "colour" (Lab and a constant); "student:PARTS", parts of a run's student joined by +: "z", its embedding,
            and "c2" to "c5", the levels of its backbone, fine to coarse; "backbone:PARTS", levels of the ImageNet
            backbone that the run's student started from, as it was before training; or a name in ``NAMED``. Parts stand
            side by side, each with the same say in a cosine.
        run: a run; needed for the student; the backbone is the default one without.
        long_side: of the picture as read.

    Raises:
        UserError: no such kind, or no run where one is needed.
    """
    where = pick_device(device)
    if kind == COLOUR:
        return PixelFeatures(kind, long_side, lambda images: color(images).to(where), where)
    network, parts = parse_kind(kind)
    if network == BACKBONE:
        config = load_checkpoint(run).config.student if run else StudentConfig()
        return PixelFeatures(kind, long_side, _backbone(config, parts, where), where)
    if run is None:
        raise UserError(f"features {kind!r} are those of a run; give one")
    student = load_checkpoint(run).student.to(where)
    return PixelFeatures(kind, long_side, lambda images: student.hypercolumn(images, parts), where)


def _backbone(config: StudentConfig, parts: tuple[str, ...], device: torch.device) -> Callable[[Tensor], Tensor]:
    backbone = load_backbone(config.backbone, config.weights, config.output_stride).eval().to(device)
    mean = torch.tensor(backbone.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std, device=device).view(1, 3, 1, 1)

    def compute(images: Tensor) -> Tensor:
        found = dict(zip(LEVELS, backbone((images - mean) / std), strict=True))
        return hypercolumn([found[part] for part in parts], _size(images))

    return compute


def color(images: Tensor) -> Tensor:
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
