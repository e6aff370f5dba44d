"""Images and maps as tensors, and files of tensors."""

import errno
import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from clips4.errors import UserError, lacks_handles
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import RGB
from clips4.utils.text import printable

HEADER_BYTES = 2**23  # of a safetensors file's header; that of a ViT-g has some 100 KiB
_DIGEST = "sha256"


def to_tensor(image: RGB) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255


def resize_map(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resizing of (B, C, h, w) to (B, C, *size), sampled at pixel centers."""
    return F.interpolate(values, size, mode="bilinear", align_corners=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        UserError: not a regular file, damaged, or with a header above ``HEADER_BYTES``.
    """
    try:
        if not path.is_file():
            raise ValueError("no such file" if not path.exists() else "not a regular file")
        with path.open("rb") as file:
            check_header(file.read(8))
        return load_file(path)
    except Exception as error:  # safetensors raises its own class, KeyError, RuntimeError and more
        if lacks_handles(error):
            raise
        raise UserError(f"{path}: not a readable weights file ({_reason(error)}); copy or download it again")


def parse_tensors(data: bytes, source: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file in memory.

    Raises:
        UserError: see ``read_tensors``.
    """
    try:
        check_header(data[:8])
        return load(data)
    except Exception as error:
        raise UserError(f"{source}: not readable as weights ({_reason(error)}); write it again")


def check_header(start: bytes) -> None:
    """Refuse a header that would need much memory.

    Raises:
        ValueError: ``start``, the first 8 bytes, names a length above ``HEADER_BYTES``.
    """
    length = int.from_bytes(start, "little")
    if length > HEADER_BYTES:
        raise ValueError(f"its header has {length} bytes, more than {HEADER_BYTES}")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file with the permissions that the umask gives.

    Raises:
        OSError: it cannot be written, e.g. for a full disk.
    """
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
    except SafetensorError as error:
        raise write_error(error, path)
    path.chmod(mode)  # safetensors writes files that the owner alone may read


def write_error(error: Exception, path: Path) -> OSError:
    """The OSError behind a library's own exception while writing; a full disk where it names no other number."""
    found = re.search(r"os error (\d+)", str(error))
    number = int(found[1]) if found else errno.ENOSPC
    return OSError(number, os.strerror(number), str(path))


def read_cached(path: Path, name: str) -> Tensor | None:
    """A tensor that ``write_cached`` wrote; None where the file is missing, or any of its bytes has changed."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts, values = file.metadata(), file.get_tensor(name)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError):
        return None
    # files of earlier versions have no digest
    return values if facts is None or facts.get(_DIGEST) == _digest(name, values) else None


def write_cached(path: Path, name: str, values: Tensor) -> None:
    """Write one tensor with a digest of it, atomically."""
    values = values.contiguous()
    write_atomically(path, save({name: values}, {_DIGEST: _digest(name, values)}))


def _digest(name: str, values: Tensor) -> str:
    head = f"{name} {values.dtype} {tuple(values.shape)} ".encode()
    return hashlib.sha256(head + values.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def read_pickled_tensors(path: Path) -> Any:
    """What ``torch.save`` wrote, read without running code: tensors and plain values alone.

    Raises:
        UserError: not a regular file, not readable, or it holds anything else.
    """
    try:
        if not path.is_file():
            raise ValueError("no such file" if not path.exists() else "not a regular file")
        if zipfile.is_zipfile(path):
            _check_stored(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zip and PyTorch, of any class
        raise UserError(f"{path}: not a readable weights file ({_reason(error)}); write it again")


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays that ``numpy.savez`` wrote; None where the file is missing or damaged."""
    try:
        if not path.is_file():
            return None
        _check_stored(path)
        with np.load(path, allow_pickle=False) as saved:
            return dict(saved)
    except Exception:  # of zip, NumPy and their headers, of any class
        return None


def _check_stored(path: Path) -> None:
    """Refuse a compressed archive: a small one may unpack to any size."""
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("compressed, which it never is")


def _reason(error: Exception) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return printable(f"{type(error).__name__}: {line}"[:200])
