"""A teacher in a calibrated space: everything downstream sees vectors centered on 0; see ``method.calibration``."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clips4.method.calibration import SpaceCalibration
from clips4.models.teachers.base import Teacher
from clips4.utils.cache import content_key


class CalibratedTeacher:
    """A teacher in a calibrated space; caches on disk keep the raw teacher's vectors. Its keys are the teacher's own.

    Args:
        teacher: gives raw vectors.
        space: its calibration.
    """

    def __init__(self, teacher: Teacher, space: SpaceCalibration):
        self.teacher, self.space = teacher, space
        self.name, self.embed_dim, self.patch_stride = teacher.name, teacher.embed_dim, teacher.patch_stride
        offsets = torch.cat([space.pixel_offset, space.text_offset]).float().cpu()
        self.settings: dict[str, object] = {**teacher.settings, "space": content_key(offsets.numpy().tobytes())}

    def __repr__(self) -> str:
        return f"CalibratedTeacher({self.teacher})"

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """K prompts -> (K, D) calibrated unit rows."""
        return self.space.calibrate_text(self.teacher.encode_text(prompts))

    def encode_pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w), calibrated unit vectors along D."""
        return self.space.calibrate_pixels(self.teacher.encode_pixels(images))

    def unknown_terms(self, texts: Sequence[str]) -> list[str]:
        """The words of texts that its text model does not know, see ``tokenizer.unknown_terms``."""
        return self.teacher.unknown_terms(texts)

    def to(self, device: torch.device) -> "CalibratedTeacher":
        """Move the teacher to a device, in place."""
        self.teacher.to(device)
        return self

    def __getattr__(self, name: str) -> object:
        # what only some teachers have: keys beside pixels, a trunk
        if name in ("teacher", "space"):
            raise AttributeError(name)
        value = getattr(self.teacher, name)
        return self._pixels_and_keys if name == "encode_pixels_and_keys" else value

    def _pixels_and_keys(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixel_map, keys = self.teacher.encode_pixels_and_keys(images)  # type: ignore[attr-defined]
        return self.space.calibrate_pixels(pixel_map), keys


def calibrated(teacher: Teacher, space: SpaceCalibration | None) -> Teacher:
    """The teacher in that space; as it is where there is none."""
    return teacher if space is None else CalibratedTeacher(teacher, space)
