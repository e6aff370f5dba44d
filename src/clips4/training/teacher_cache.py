"""Whether the teacher's maps are kept on disk or computed on the fly; their size decides."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import Config
from clips4.data.image_source import Source
from clips4.errors import UserError
from clips4.models.teachers.base import Teacher
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.models.teachers.maps.map_shards import SHARD_BYTES
from clips4.models.teachers.projection import fit_basis
from clips4.utils.progress import ProgressReporter
from clips4.utils.tensors import to_tensor
from clips4.utils.text import plural

_SAMPLED, _POSITIONS = 32, 512  # images read for a basis; positions of each
_BYTES = 2  # half precision


def estimate_bytes(count: int, sizes: Sequence[tuple[int, int]], long_side: int, stride: int, dims: int) -> int:
    """Bytes of the maps of ``count`` images, estimated from the (width, height) of some."""
    if not sizes:
        return 0
    positions = [
        max(1, round(height * shrink / stride)) * max(1, round(width * shrink / stride))
        for width, height in sizes
        for shrink in [min(1.0, long_side / max(width, height))]
    ]
    return round(count * sum(positions) / len(positions) * dims * _BYTES)


def plan_teacher_maps(
    teacher: Teacher, source: Source, text: Tensor, config: Config, device: torch.device, progress: ProgressReporter
) -> TeacherMaps:
    """The teacher's maps, cached where they fit ``teacher.cache_gib`` and computed on the fly where they do not.

    Args:
        teacher: on its device.
        source: the images of the run.
        text: (K, D) class vectors; ``teacher.cache_dims`` keeps their span exactly.
        config: of the run.
        device: where the teacher is.
        progress: logs the decision.

    Raises:
        UserError: ``teacher.cache_dims`` is smaller than the number of classes, or larger than D; or the disk has no
            room for the maps.
    """
    dims = config.teacher.cache_dims or teacher.embed_dim
    if not len(text) <= dims <= teacher.embed_dim and config.teacher.cache_dims:
        raise UserError(
            f"teacher.cache_dims = {dims}: give {len(text)}, the number of classes, to {teacher.embed_dim}, "
            "the teacher's dimensions; or 0 to keep all"
        )
    count, sizes = source.sizes()
    gib = estimate_bytes(count, sizes, config.data.long_side, teacher.patch_stride, dims) / 2**30
    size = f"{gib:.2g} GiB" if gib >= 0.1 else f"{max(1, round(1024 * gib))} MiB"
    needs = f"teacher maps of {plural(count, 'image')} need about {size}"
    if gib > config.teacher.cache_gib:
        progress.log(f"{needs}, more than teacher.cache_gib = {config.teacher.cache_gib:g}: computed in every step")
        return TeacherMaps(teacher, device, keep=False)
    basis = None
    if dims < teacher.embed_dim:
        basis = fit_basis(text, _sample(teacher, source, config.data.long_side, device), dims)
    shard_bytes = SHARD_BYTES if config.teacher.cache_files == "shards" else 0
    maps = TeacherMaps(teacher, device, basis=basis, shard_bytes=shard_bytes)
    _check_room(maps.folder, gib, size)
    kept = f", {dims} of {teacher.embed_dim} dimensions" if basis is not None else ""
    kept += ", in shards" if maps.sharded else ""
    progress.log(f"{needs}: computed once and kept in {maps.folder}{kept}")
    return maps


def _check_room(folder: Path, gib: float, size: str) -> None:
    """Refuse maps for which the disk has no room, before the first is made."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 2**30
    if gib <= free:
        return
    there = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 2**30  # of an earlier run
    if gib > free + there:
        raise UserError(
            f"{folder}: teacher maps need about {size}, and the disk has {free + there:.2g} GiB for them; set "
            "CLIPS4_CACHE to a folder on another disk, teacher.cache_dims to fewer dimensions, or teacher.cache_gib=0 "
            "(computed in every step)"
        )


def _sample(teacher: Teacher, source: Source, long_side: int, device: torch.device) -> Tensor:
    """(P, D) unit vectors from some positions of some images, the same in every run."""
    found = [torch.zeros(0, teacher.embed_dim)]
    for _, image in source.sample(_SAMPLED, long_side):
        vectors = teacher.encode_pixels(to_tensor(image)[None].to(device))[0].flatten(1).T.float().cpu()
        found.append(vectors[:: max(1, len(vectors) // _POSITIONS)])
    return F.normalize(torch.cat(found), dim=1)
