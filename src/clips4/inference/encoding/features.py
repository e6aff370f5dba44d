"""Encoders of pixel features that one protocol compares: the student's, its backbone's before training, raw color.

All take images of one size and give features of one stride, so that only the features differ.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from skimage.color import rgb2lab
from torch import Tensor

from clips4.config import StudentConfig, TeacherConfig
from clips4.errors import UserError
from clips4.inference.encoding.encoder import Encoder
from clips4.models.checkpoint import load_checkpoint
from clips4.models.pretrained import load_backbone
from clips4.models.student import EMBEDDING, LEVELS, hypercolumn
from clips4.models.teachers.base import load_teacher
from clips4.utils.devices import pick_device

COLOR, TEACHER, STUDENT, BACKBONE = "color", "teacher", "student", "backbone"
# shorthands; any other choice of parts is written as on the right
NAMED = {
    STUDENT: f"{STUDENT}:{EMBEDDING}",
    "student-hypercolumn": f"{STUDENT}:{EMBEDDING}+c4",
    BACKBONE: f"{BACKBONE}:c5",
    "backbone-mid": f"{BACKBONE}:c4",
    "backbone-hypercolumn": f"{BACKBONE}:c5+c4",
}
KINDS = (*NAMED, TEACHER, COLOR)
STRIDE = 8  # pixels of the resized image per position, for features without a stride of their own


def parse_kind(kind: str) -> tuple[str, tuple[str, ...]]:
    """The network of features and its parts, concatenated: "student:z+c3+c4" -> ("student", ("z", "c3", "c4")).

    Raises:
        UserError: neither one of ``KINDS`` nor of that form, a part twice, or z of a backbone.
    """
    network, _, listed = NAMED.get(kind, kind).partition(":")
    parts = tuple(listed.split("+"))
    allowed = {STUDENT: (EMBEDDING, *LEVELS), BACKBONE: LEVELS}.get(network, ())
    if not set(parts) <= set(allowed) or len(set(parts)) < len(parts):
        raise UserError(
            f"features {kind!r}: choose one of {', '.join(KINDS)}; or student:PARTS, some of z, {', '.join(LEVELS)} "
            "joined by +, as in student:z+c3+c4; or backbone:PARTS without z"
        )
    return network, parts


def load_features(kind: str, run: Path | None, long_side: int, device: str = "auto") -> Encoder:
    """The encoder of one kind of features.

    Args:
        kind: "color" (Lab and a constant); "teacher", the pixel map of the run's teacher; "student:PARTS", parts of a
            run's student joined by +: "z", its embedding, and "c2" to "c5", the levels of its backbone, fine to coarse;
            "backbone:PARTS", levels of the ImageNet backbone that the run's student started from, before training; or a
            name in ``NAMED``. Parts are concatenated, each with the same weight in a cosine.
        run: needed for the student; without it teacher and backbone are the default ones.
        long_side: larger images are reduced to it.
        device: "auto", "cpu", "cuda", "mps".

    Raises:
        UserError: no such kind, or no run although one is needed.
    """
    where = pick_device(device)
    if kind == COLOR:
        return _encoder(color, long_side, where)
    if kind == TEACHER:
        teacher = load_teacher(load_checkpoint(run).config.teacher if run else TeacherConfig()).to(where)
        return _encoder(lambda images: hypercolumn([teacher.encode_pixels(images)], _size(images)), long_side, where)
    network, parts = parse_kind(kind)
    if network == BACKBONE:
        config = load_checkpoint(run).config.student if run else StudentConfig()
        return _encoder(_backbone(config, parts, where), long_side, where)
    if run is None:
        raise UserError(f"features {kind!r} need a run; give one")
    student = load_checkpoint(run).student.to(where)
    return _encoder(lambda images: student.hypercolumn(images, parts), long_side, where)


def _encoder(network: Callable[[Tensor], Tensor], long_side: int, device: torch.device) -> Encoder:
    return Encoder(network, long_side, STRIDE, device, "float32", cache_bytes=0)


def _backbone(config: StudentConfig, parts: tuple[str, ...], device: torch.device) -> Callable[[Tensor], Tensor]:
    backbone = load_backbone(config.backbone, config.weights, config.output_stride).eval().to(device)
    mean = torch.tensor(backbone.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std, device=device).view(1, 3, 1, 1)

    def compute(images: Tensor) -> Tensor:
        found = dict(zip(LEVELS, backbone((images - mean) / std), strict=True))
        return hypercolumn([found[part] for part in parts], _size(images))

    return compute


def color(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, 4, h, w) unit: the mean Lab color of each block, in tenths, and a constant.

    The constant distinguishes grays when only the direction counts: with 10 units of Lab per unit of the constant,
    two colors near gray that are 10 apart are nearly as dissimilar as orthogonal vectors.
    """
    small = F.interpolate(images, _size(images), mode="area")
    lab = torch.from_numpy(rgb2lab(small.permute(0, 2, 3, 1).cpu().numpy())).permute(0, 3, 1, 2).float()
    centered = (lab - torch.tensor([50.0, 0.0, 0.0]).view(1, 3, 1, 1)) / 10
    return F.normalize(torch.cat([centered, torch.ones_like(centered[:, :1])], 1), dim=1).to(images.device)


def _size(images: Tensor) -> tuple[int, int]:
    height, width = images.shape[-2:]
    return -(-height // STRIDE), -(-width // STRIDE)
