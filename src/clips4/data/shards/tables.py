"""Tables of images as the library datasets writes them: parquet files, and the arrow files of ``save_to_disk``.

A table is a shard whose samples are its rows; memory holds some rows at a time. The column of images is the one that
the file's metadata calls an ``Image``, or else one named ``image`` or ``img``: bytes, or a struct of bytes and path. A
row without bytes has the image at that path, from the table's folder on.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from clips4.data.image_folder import SkippedImage
from clips4.data.shards.files import TABLES
from clips4.data.shards.members import OnSkip, is_image
from clips4.data.shards.remote import is_remote, open_shard
from clips4.errors import UserError
from clips4.utils.extras import install_command
from clips4.utils.images import SUFFIXES
from clips4.utils.text import listing

_NAMES = ("image", "img")
_ROWS = 16  # that are read together
_SPLIT = re.compile(r"(.+)-\d{5}-of-\d{5}\.\w+")  # TRAIN-00000-of-00002.parquet


def is_table(shard: str | Path) -> bool:
    """Whether a shard is a table; otherwise it is a tar file."""
    return str(shard).lower().endswith(TABLES)


def find_tables(folder: str | Path) -> list[Path]:
    """The tables in a folder and its subfolders, sorted; none if it holds an image file, or is no folder.

    Raises:
        UserError: they are of several splits.
    """
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(Path(name).suffix.lower() in SUFFIXES for name in files):
            return []
        found += [Path(parent, name) for name in files if is_table(name) and not name.startswith(("cache-", "."))]
    splits = sorted({_split_of(path) for path in found})
    if len(splits) > 1:
        raise UserError(f"{folder}: holds tables of {listing(splits)}; give the files or the folder of one of them")
    return sorted(found)


def _split_of(path: Path) -> str:
    named = _SPLIT.fullmatch(path.name)
    return named[1] if named and named[1] != "data" else path.parent.name


def read_rows(shard: str, on_skip: OnSkip | None) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the image of each row, in order; no bytes where the row has none.

    Raises:
        UserError: no column of images, a store that cannot be read, or pyarrow is not installed.
    """
    arrow = _import_arrow()
    row = 0
    try:
        with open_shard(shard) as (file, _):
            for column in _columns(file, shard, arrow):
                for value in column:
                    path, data = _path_and_bytes(value.as_py())
                    suffix = path.rpartition(".")[2].lower() if is_image(path) else "img"
                    yield f"{row:08}.{suffix}", _read_beside(shard, path) if data is None else data
                    row += 1
    except UserError:
        raise
    except (arrow.ArrowException, OSError, ValueError, ArithmeticError, LookupError) as error:
        if on_skip:
            said = " ".join(str(error).split())
            on_skip(SkippedImage(Path(shard), f"{shard}: damaged table ({said}); its rows before that are used"))


def count_rows(shard: str) -> int:
    """Number of rows that ``read_rows`` yields of a table that is not damaged."""
    if not shard.lower().endswith(".parquet"):
        return sum(1 for _ in read_rows(shard, None))
    arrow = _import_arrow()
    from pyarrow.parquet import read_metadata

    try:
        with open_shard(shard) as (file, _):
            return int(read_metadata(file).num_rows)
    except UserError:
        raise
    except (arrow.ArrowException, OSError, ValueError):
        return 0


def _import_arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise UserError(f"tables of images need the package pyarrow: {install_command('pyarrow')}")
    return pyarrow


def _columns(file: BinaryIO, shard: str, arrow: Any) -> Iterator[Any]:
    """The column of images, some rows at a time."""
    if shard.lower().endswith(".parquet"):
        from pyarrow.parquet import ParquetFile

        table = ParquetFile(file)
        name = _column_of_images(table.schema_arrow, shard, arrow)
        for batch in table.iter_batches(_ROWS, columns=[name]):
            yield batch.column(0)
        return
    with arrow.ipc.open_stream(file) as batches:
        name = _column_of_images(batches.schema, shard, arrow)
        for batch in batches:
            batch.validate(full=True)  # without this a damaged file ends the process
            yield batch.column(name)


def _column_of_images(schema: Any, shard: str, arrow: Any) -> str:
    """Name of the column.

    Raises:
        UserError: there is none.
    """
    written = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(written)["info"]["features"]
        marked = [name for name, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "Image"]
    except (ValueError, KeyError, TypeError, AttributeError):
        marked = []
    types = {name: schema.field(name).type for name in schema.names if schema.names.count(name) == 1}
    usable = [name for name, kind in types.items() if _is_binary(kind, arrow) or arrow.types.is_struct(kind)]
    for name in (*(name for name in _NAMES if name in marked), *marked, *_NAMES):
        if name in usable:
            return str(name)
    raise UserError(
        f"{shard}: no column of images, only {listing(schema.names)}; name it image, and give it bytes, or a struct of "
        "bytes and path"
    )


def _is_binary(kind: Any, arrow: Any) -> bool:
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))


def _path_and_bytes(value: Any) -> tuple[str, bytes | None]:
    """Of a cell; an empty path where it has none."""
    if not isinstance(value, dict):
        return "", value or b""
    path, data = value.get("path"), value.get("bytes")
    return path if isinstance(path, str) else "", data if isinstance(data, bytes) else None


def _read_beside(shard: str, path: str) -> bytes:
    """The file at a row's path; nothing if there is none, or it lies outside the table's folder."""
    if not path or is_remote(shard):
        return b""
    folder = Path(shard).parent.resolve()
    place = (folder / path).resolve()
    return place.read_bytes() if place.is_relative_to(folder) and place.is_file() else b""
