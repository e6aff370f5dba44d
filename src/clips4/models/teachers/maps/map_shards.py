"""Teacher maps of many images in few files: shards that every rank writes, and one sorted index that all ranks read.

    FOLDER/NAME.safetensors    the maps of some images; NAME is a hash of their keys
    FOLDER/index.safetensors   a row for each map, sorted by key

A shard appears complete or not at all, so that a killed run loses the maps in memory alone. The index is mapped into
memory, not read: memory does not grow with the number of images.
"""

import json
import os
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor

from clips4.utils.atomic_io import write_atomically
from clips4.utils.cache import content_key
from clips4.utils.tensors import check_header

SHARD_BYTES = 2**26  # of the maps of a shard, which wait in memory until it is written
_SHARD_MAPS = 4096  # at most, so that a shard's header stays small
_ENDING = ".safetensors"
_INDEX = "index"
_DIGESTS = "sha256"  # of a shard's metadata: one entry, since the order of several is random
_ROW = np.dtype([("key", "S32"), ("digest", "S32"), ("shard", "<u4"), ("start", "<u8"), ("shape", "<u4", (3,))])
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)


class MapShards:
    """Maps (d, h, w) float16 by the key of their image.

    Args:
        folder: of the shards; it need not exist.
        limit: bytes of a shard.

    Example:
        >>> shards = MapShards(Path("maps"))
        >>> shards.add("0" * 32, torch.zeros(4, 6, 8).half())
        >>> shards.flush()
        >>> shards.update_index()
        >>> shards.read("0" * 32).shape
        torch.Size([4, 6, 8])
    """

    def __init__(self, folder: Path, limit: int = SHARD_BYTES):
        self.folder, self._limit = folder, limit
        self._waiting: dict[str, Tensor] = {}
        self._bytes = 0
        self._names, self._rows = self._open_index()

    def __getstate__(self) -> dict[str, Any]:
        """For a loader process, which maps the index into its own memory."""
        return {"folder": self.folder, "limit": self._limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def read(self, key: str) -> Tensor | None:
        """The map of an image; None where no indexed shard has it, or its bytes have changed."""
        wanted = key.encode()
        at = bisect_left(self._rows, wanted, key=lambda row: row["key"])
        if at == len(self._rows) or self._rows[at]["key"] != wanted:
            return self._waiting.get(key)
        row = self._rows[at]
        shape, start = tuple(map(int, row["shape"])), int(row["start"])
        size = 2 * shape[0] * shape[1] * shape[2]
        try:
            with self._path(self._names[int(row["shard"])]).open("rb") as file:
                if start + size > os.fstat(file.fileno()).st_size:
                    return None
                file.seek(start)
                data = file.read(size)
        except (OSError, IndexError):  # the shard was removed, or the index is damaged
            return None
        if content_key(data).encode() != row["digest"]:
            return None
        return torch.frombuffer(bytearray(data), dtype=torch.float16).view(shape)

    def add(self, key: str, pixel_map: Tensor) -> None:
        """Take a map (d, h, w) float16; it is written with others when a shard is full.

        Args:
            key: of the image, 32 characters.
            pixel_map: its map.

        Raises:
            OSError: the shard cannot be written, e.g. for a full disk.
        """
        self._waiting[key] = pixel_map
        self._bytes += 2 * pixel_map.numel()
        if self._bytes >= self._limit or len(self._waiting) >= _SHARD_MAPS:
            self.flush()

    def flush(self) -> None:
        """Write the maps that wait, if any, as a shard.

        Raises:
            OSError: it cannot be written.
        """
        if not self._waiting:
            return
        maps = {key: self._waiting[key].contiguous().numpy() for key in sorted(self._waiting)}
        digests = {key: content_key(pixel_map.tobytes()) for key, pixel_map in maps.items()}
        data = save(maps, {_DIGESTS: json.dumps(digests)})
        write_atomically(self._path(content_key("".join(maps).encode())), data)
        self._waiting.clear()
        self._bytes = 0

    def update_index(self) -> None:
        """Bring the index up to the shards that are in the folder; those that it has are not read again.

        Raises:
            OSError: it cannot be written.
        """
        self._names, self._rows = self._open_index()
        names = self._shards()
        if names == self._names:
            return
        number = {name: index for index, name in enumerate(names)}
        moved = np.array([*(number.get(name, -1) for name in self._names), -1])
        moved = moved[np.minimum(self._rows["shard"], len(self._names))]
        kept = self._rows[moved >= 0]
        kept["shard"] = moved[moved >= 0]
        new = [_rows_of(self._path(name), number[name]) for name in names if name not in set(self._names)]
        rows = np.concatenate([kept, *new])
        rows = rows[np.argsort(rows["key"], kind="stable")]
        data = save({"rows": rows.view(np.uint8)}, {"shards": " ".join(names)})
        write_atomically(self._path(_INDEX), data)
        self._names, self._rows = self._open_index()

    def _path(self, name: str) -> Path:
        return self.folder / (name + _ENDING)

    def _shards(self) -> list[str]:
        """The names of the shards in the folder, sorted."""
        found: Iterable[os.DirEntry[str]] = os.scandir(self.folder) if self.folder.is_dir() else ()
        names = (each.name.removesuffix(_ENDING) for each in found if each.name.endswith(_ENDING))
        return sorted(name for name in names if name != _INDEX)

    def _open_index(self) -> tuple[list[str], NDArray[Any]]:
        """Names of the shards, and the rows; none where the index is missing or damaged, to be made again."""
        path = self._path(_INDEX)
        try:
            start, header = _read_header(path)
            rows = np.memmap(path, _ROW, "r", start, (path.stat().st_size - start) // _ROW.itemsize)
            return header["__metadata__"]["shards"].split(), rows
        except _UNREADABLE:
            return [], np.empty(0, _ROW)


def _read_header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the data of a safetensors file starts, and its header."""
    with path.open("rb") as file:
        start = file.read(8)
        check_header(start)
        length = int.from_bytes(start, "little")
        header = json.loads(file.read(length))
    return 8 + length, header


def _rows_of(path: Path, number: int) -> NDArray[Any]:
    """The rows of a shard; none where it is damaged, whose maps are then made again."""
    try:
        start, header = _read_header(path)
        digests = json.loads(header.pop("__metadata__")[_DIGESTS])
        rows = [
            (key, digests[key], number, start + facts["data_offsets"][0], tuple(facts["shape"]))
            for key, facts in header.items()
        ]
        return np.array(rows, _ROW)
    except _UNREADABLE:
        return np.empty(0, _ROW)
