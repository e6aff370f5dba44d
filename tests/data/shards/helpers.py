"""Shards, made with tarfile alone."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from clips4.data.image_folder import SkippedImage
from clips4.data.shards.samples import Sample

Members = Sequence[tuple[str, bytes]]


def write_tar(path: Path, members: Members, mode: str = "w") -> str:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def write_shards(folder: Path, sizes: Sequence[int]) -> list[str]:
    """Shards of samples with a picture, a label and a caption; all names and contents differ."""
    paths = []
    for number, size in enumerate(sizes):
        members: list[tuple[str, bytes]] = []
        for index in range(size):
            key = f"{number:02d}{index:03d}"
            members += [(f"{key}.cls", b"7"), (f"{key}.jpg", f"picture {key}".encode()), (f"{key}.txt", b"a cat")]
        paths.append(write_tar(folder / f"{number:02d}.tar", members))
    return paths


def everything(paths: Sequence[str]) -> list[Sample]:
    """The pictures by tarfile alone."""
    samples = []
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    file = tar.extractfile(member)
                    assert file is not None
                    samples.append(Sample(f"{path}/{member.name}", file.read()))
    return samples


def no_skips(skipped: SkippedImage) -> None:
    raise AssertionError(skipped.reason)


def header(name: str, size: int, kind: bytes = b"0", link: str = "", sparse: int | None = None) -> bytes:
    """A tar header with a size that may be a lie."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (
        (b"\xff" + (size % 256**11).to_bytes(11, "big")) if size < 0 else b"\x80" + size.to_bytes(11, "big")
    )
    if sparse is not None:
        for start, value in ((386, sparse), (398, 0), (483, sparse)):
            block[start : start + 12] = b"\x80" + value.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
