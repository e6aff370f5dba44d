"""Whether the teacher's maps are kept on disk or computed on the fly, decided by their size and said aloud."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clips4.config import Config
from clips4.data.folders import load_photograph
from clips4.errors import UserError
from clips4.images import to_tensor
from clips4.listening import Listener
from clips4.teachers import Teacher
from clips4.teachers.cache import TeacherMaps
from clips4.teachers.projection import fit_basis

_SIZED, _SAMPLED, _POSITIONS = 256, 32, 512  # pictures whose size is looked at; read for a basis; positions of each
_BYTES = 2  # half precision


def estimate_bytes(paths: Sequence[Path], long_side: int, stride: int, dims: int) -> int:
    """Bytes of the maps of all pictures, from the sizes of some spread evenly over them."""
    sizes = [size for path in spread(paths, _SIZED) if (size := _size(path))]
    if not sizes:
        return 0
    positions = [
        max(1, round(height * shrink / stride)) * max(1, round(width * shrink / stride))
        for width, height in sizes
        for shrink in [min(1.0, long_side / max(width, height))]
    ]
    return round(len(paths) * sum(positions) / len(positions) * dims * _BYTES)


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """At most ``count`` of the paths, evenly spaced."""
    return list(paths[:: max(1, -(-len(paths) // count))])


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:  # reads the header only
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def plan_teacher_maps(
    teacher: Teacher, paths: Sequence[Path], text: Tensor, config: Config, device: torch.device, listener: Listener
) -> TeacherMaps:
    """The teacher's maps, cached where they fit ``teacher.cache_gib`` and computed on the fly where they do not.

    Args:
        teacher: on its device.
        paths: the pictures of the run.
        text: (K, D) class vectors; with ``teacher.cache_dims`` they are kept exactly.
        config: of the run.
        device: where the teacher is.
        listener: is told what was decided.

    Raises:
        UserError: ``teacher.cache_dims`` is too few for the classes, or more than D.
    """
    dims = config.teacher.cache_dims or teacher.embed_dim
    if not len(text) <= dims <= teacher.embed_dim and config.teacher.cache_dims:
        raise UserError(
            f"teacher.cache_dims = {dims}: give {len(text)}, the number of classes, to {teacher.embed_dim}, "
            "the teacher's dimensions; or 0 to keep all"
        )
    gib = estimate_bytes(paths, config.data.long_side, teacher.patch_stride, dims) / 2**30
    needs = f"teacher's maps of {len(paths)} pictures need some {gib:.2g} GiB"
    if gib > config.teacher.cache_gib:
        listener.say(f"{needs}, more than teacher.cache_gib = {config.teacher.cache_gib:g}: computed in every step")
        return TeacherMaps(teacher, device, keep=False)
    basis = None
    if dims < teacher.embed_dim:
        basis = fit_basis(text, _sample(teacher, paths, config.data.long_side, device), dims)
    maps = TeacherMaps(teacher, device, basis=basis)
    kept = f", {dims} of {teacher.embed_dim} dimensions" if basis is not None else ""
    listener.say(f"{needs}: computed once and kept in {maps.folder}{kept}")
    return maps


def _sample(teacher: Teacher, paths: Sequence[Path], long_side: int, device: torch.device) -> Tensor:
    """(P, D) unit vectors from some positions of some pictures, the same in every run."""
    found = [torch.zeros(0, teacher.embed_dim)]
    for path in spread(paths, _SAMPLED):
        try:
            image = to_tensor(load_photograph(path, long_side))
        except UserError:
            continue  # told when the pictures are read
        vectors = teacher.encode_pixels(image[None].to(device))[0].flatten(1).T.float().cpu()
        found.append(vectors[:: max(1, len(vectors) // _POSITIONS)])
    return F.normalize(torch.cat(found), dim=1)
