"""The teacher's pixel maps on disk: each picture is read once, un-augmented, and kept in half precision."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from clips4.caching import cache_root, picture_key, settings_key
from clips4.images import RGB, to_tensor, write_atomically
from clips4.teachers.teacher import Teacher


class TeacherMaps:
    """Pixel maps of a teacher, computed once per picture.

    Args:
        teacher: what reads the pictures; its name and settings name the cache.
        device: where it computes.
        root: cache folder; ``caching.cache_root()`` by default.
    """

    def __init__(self, teacher: Teacher, device: torch.device | str = "cpu", root: Path | None = None):
        self._teacher, self._device = teacher, device
        key = settings_key({"name": teacher.name, **teacher.settings})
        self.folder = (root or cache_root()) / "teacher" / key

    def path(self, image: RGB) -> Path:
        """The file that holds this picture's map, there or not."""
        return self.folder / f"{picture_key(image)}.safetensors"

    def __call__(self, image: RGB) -> Tensor:
        """(H, W, 3) uint8 -> (D, h, w) float16, unit vectors but for rounding."""
        path = self.path(image)
        cached = self._read(path)
        if cached is not None:
            return cached
        images = to_tensor(image)[None].to(self._device)
        pixel_map = self._teacher.encode_pixels(images)[0].half().cpu().contiguous()
        write_atomically(path, save({"map": pixel_map}))
        return pixel_map

    def _read(self, path: Path) -> Tensor | None:
        """The map in the file; None where it is missing or damaged, so that it is made anew."""
        if not path.is_file():
            return None
        try:
            pixel_map = load_file(path)["map"]
        except (SafetensorError, KeyError, OSError):
            return None
        return pixel_map if pixel_map.ndim == 3 and pixel_map.shape[0] == self._teacher.embed_dim else None
