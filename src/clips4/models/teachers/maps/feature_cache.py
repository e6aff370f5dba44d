"""The teacher's pixel maps: each image is encoded once, without augmentation, and kept on disk in half precision.

A map is a file of its own, or one of many in a shard (``map_shards``). Where all maps together would be too large, an
image is encoded whenever its map is needed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import torch
from torch import Tensor

from clips4.method.calibration import SpaceCalibration
from clips4.models.calibrated_teacher import CalibratedTeacher
from clips4.models.teachers.base import Teacher
from clips4.models.teachers.maps.map_shards import MapShards
from clips4.utils import distributed
from clips4.utils.cache import cache_root, content_key, image_key, settings_key
from clips4.utils.images import RGB
from clips4.utils.tensors import read_cached, to_tensor, write_cached


class TeacherMaps:
    """Pixel maps of a teacher.

    Args:
        teacher: its name and settings identify the cache; of a calibrated one, raw maps are kept.
        device: where it computes.
        root: cache folder; ``utils.cache.cache_root()`` by default.
        basis: (d, D) orthonormal rows; maps are stored as d coordinates and returned with D dimensions.
        keep: whether maps are kept on disk.
        shard_bytes: size of the shards that ``shared_pass`` writes; 0: each map is a file. Maps that are on disk are
            read in any case.
    """

    def __init__(
        self,
        teacher: Teacher,
        device: torch.device | str = "cpu",
        root: Path | None = None,
        basis: Tensor | None = None,
        keep: bool = True,
        shard_bytes: int = 0,
    ):
        self._space = teacher.space if isinstance(teacher, CalibratedTeacher) else None
        teacher = teacher.teacher if isinstance(teacher, CalibratedTeacher) else teacher
        self._teacher, self._device, self._basis, self.keep = teacher, device, basis, keep
        settings = {"name": teacher.name, **teacher.settings}
        if basis is not None:
            settings["basis"] = content_key(basis.numpy().tobytes())
        self.folder = (root or cache_root()) / "teacher" / settings_key(settings)
        self.sharded, self._writes_shards = keep and shard_bytes > 0, False
        self._shards = MapShards(self.folder / "shards", shard_bytes)

    def in_space(self, space: SpaceCalibration | None) -> "TeacherMaps":
        """The same maps in another space, from the same files; None is the raw space."""
        maps = copy(self)
        maps._space = space
        return maps

    def path(self, image: RGB) -> Path:
        """The file for this image's map, whether it exists or not."""
        return self._path(image_key(image))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    @contextmanager
    def shared_pass(self) -> Iterator[None]:
        """All ranks encode their images within it; after it, each rank reads the maps of all without the teacher.

        Of sharded maps, new ones are written to shards, and those of finished shards of an earlier pass are not made
        again. Without shards there is nothing to do: each map is a file that appears as soon as it is made.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        if not self.sharded:
            yield
            return
        self._index_shards()
        self._writes_shards = True
        try:
            yield
            self._shards.flush()
        finally:
            self._writes_shards = False
        self._index_shards()

    def _index_shards(self) -> None:
        """Each rank sees the shards of all; ranks of a machine with a disk of its own see those of this machine."""
        distributed.gather_objects(None)  # all shards are written
        if distributed.rank() == 0:
            self._shards.update_index()
        distributed.gather_objects(None)
        self._shards.update_index()

    def __call__(self, image: RGB) -> Tensor:
        """(H, W, 3) uint8 -> (D, h, w) float16, unit vectors up to rounding and what a basis drops."""
        return self.many([image])[0]

    def many(self, images: Sequence[RGB]) -> list[Tensor]:
        """The maps of images of one size; those that are not on disk are encoded together.

        Args:
            images: B times (H, W, 3) uint8.

        Returns:
            B times (D, h, w) float16 on the CPU, as of one image alone up to the rounding of larger products.
        """
        if not self.keep:
            return [self._calibrate(pixel_map).cpu() for pixel_map in self._encode(_stacked(images))]
        keys = [image_key(image) for image in images]
        kept = {index: found for index, key in enumerate(keys) if (found := self._read(key)) is not None}
        missing = [index for index in range(len(images)) if index not in kept]
        if missing:
            made = self._encode(_stacked([images[index] for index in missing])).cpu()
            for index, pixel_map in zip(missing, made, strict=True):
                kept[index] = self._project(pixel_map.contiguous())
                if self._writes_shards:
                    self._shards.add(keys[index], kept[index])
                else:
                    write_cached(self._path(keys[index]), "map", kept[index])
        return [self._calibrate(self._restore(kept[index])) for index in range(len(images))]

    def compute(self, image: Tensor) -> Tensor:
        """Encode an image now: (3, H, W) in [0, 1] -> (D, h, w) float16 on the teacher's device."""
        return self._calibrate(self._encode(image[None])[0])

    def _encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w) float16 on the teacher's device."""
        return self._teacher.encode_pixels(images.to(self._device)).half().contiguous()

    def _calibrate(self, pixel_map: Tensor) -> Tensor:
        return pixel_map if self._space is None else self._space.calibrate_pixels(pixel_map).half()

    def _project(self, pixel_map: Tensor) -> Tensor:
        if self._basis is None:
            return pixel_map
        return torch.einsum("Dhw,dD->dhw", pixel_map.float(), self._basis).half().contiguous()

    def _restore(self, kept: Tensor) -> Tensor:
        if self._basis is None:
            return kept
        return torch.einsum("dhw,dD->Dhw", kept.float(), self._basis).half().contiguous()

    def _read(self, key: str) -> Tensor | None:
        """What is on disk; None where it is missing or damaged and has to be computed again."""
        kept = self._shards.read(key)
        if kept is None:
            kept = read_cached(self._path(key), "map")
        dims = self._teacher.embed_dim if self._basis is None else len(self._basis)
        return kept if kept is not None and kept.ndim == 3 and kept.shape[0] == dims else None


def _stacked(images: Sequence[RGB]) -> Tensor:
    """(B, 3, H, W) in [0, 1]."""
    return torch.stack([to_tensor(image) for image in images])
