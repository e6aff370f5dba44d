"""A teacher whose space is calibrated: what comes after it sees no common offset of pixels or names."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clips4.method.calibration import SpaceCalibration
from clips4.models.teachers.base import Teacher
from clips4.utils.cache import content_key


class CalibratedTeacher(nn.Module):
    """A Teacher around a Teacher.

    Args:
        teacher: as it is.
        space: the offsets of its space.
    """

    def __init__(self, teacher: Teacher, space: SpaceCalibration):
        super().__init__()
        self.teacher, self.space = teacher, space
        self.name, self.embed_dim, self.patch_stride = teacher.name, teacher.embed_dim, teacher.patch_stride
        digest = content_key(torch.cat([*space]).double().cpu().numpy().tobytes())
        # in the names of caches: maps and vectors of another calibration are others
        self.settings: dict[str, object] = {**teacher.settings, "calibration": digest}
        self.text_settings: dict[str, object] = {
            **getattr(teacher, "text_settings", teacher.settings),
            "calibration": digest,
        }

    @property
    def trunk(self) -> Any:
        """The teacher's network for a residual student, with the offset in its map; None where it has none."""
        trunk = getattr(self.teacher, "trunk", None)
        return None if trunk is None else trunk.calibrated(self.space.pixel_offset)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """K prompts -> (K, D) calibrated unit rows."""
        return self.space.text(self.teacher.encode_text(prompts))

    @torch.no_grad()
    def encode_pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w), calibrated, unit along D."""
        return self.space.pixels(self.teacher.encode_pixels(images))
