import errno
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from clips4.errors import UserError
from clips4.utils.tensors import (
    HEADER_BYTES,
    parse_tensors,
    read_cached,
    read_pickled_tensors,
    read_tensors,
    resize_map,
    to_tensor,
    write_cached,
    write_error,
    write_tensors,
)


def test_to_tensor_is_channels_first_from_black_0_to_white_1() -> None:
    image = np.array([[[0, 51, 255], [255, 0, 0]]], np.uint8)
    expected = torch.tensor([[[0.0, 1.0]], [[0.2, 0.0]], [[1.0, 0.0]]])
    torch.testing.assert_close(to_tensor(image), expected)
    assert torch.equal(to_tensor(image[:, ::-1]), to_tensor(image).flip(2))


def test_resize_map_samples_at_pixel_centers() -> None:
    ramp = torch.tensor([[[[0.0, 1.0]]]])
    assert resize_map(ramp, (1, 4)).flatten().tolist() == [0, 0.25, 0.75, 1]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    write_tensors(
        tmp_path / "w.safetensors", {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.float16)}
    )
    return tmp_path / "w.safetensors"


def test_write_tensors_comes_back_bit_for_bit(weights: Path) -> None:
    found = read_tensors(weights)
    assert torch.equal(found["a"], torch.arange(6.0).view(2, 3))
    assert found["b"].dtype == torch.float16


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600), (0o027, 0o640)])
def test_write_tensors_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(1)})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "w.safetensors").stat().st_mode) == mode


def test_write_tensors_full_disk_is_an_os_error() -> None:
    error = write_error(RuntimeError("Error while serializing: I/O error: full (os error 28)"), Path("w"))
    assert (error.errno, error.filename) == (errno.ENOSPC, "w")
    assert write_error(RuntimeError("unexpected pos 64 vs 0"), Path("w")).errno == errno.ENOSPC
    assert write_error(RuntimeError("(os error 30)"), Path("w")).errno == errno.EROFS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no weights",
        (2**40).to_bytes(8, "little") + b"{}",
        (HEADER_BYTES + 1).to_bytes(8, "little") + b"{" + b" " * HEADER_BYTES,
        (2).to_bytes(8, "little") + b"[]",
        (65).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,4]}}  ' + bytes(4),
    ],
    ids=["empty", "text", "giant", "large-header", "list", "shape"],
)
def test_read_tensors_hostile_header_raises(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=r"w\.safetensors: not a readable weights file"):
        read_tensors(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="source: not readable as weights"):
        parse_tensors(data, "source")


def test_read_tensors_pipe_or_folder_raises(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match="not a re"):
            read_tensors(path)
        with pytest.raises(UserError, match="not a re"):
            read_pickled_tensors(path)


def test_read_cached_any_changed_byte_is_not_returned(tmp_path: Path) -> None:
    path, values = tmp_path / "c.safetensors", torch.arange(8.0)
    write_cached(path, "map", values)
    found = read_cached(path, "map")
    assert found is not None
    assert torch.equal(found, values)
    data = path.read_bytes()
    for place in range(8, len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        changed = read_cached(path, "map")
        assert changed is None or torch.equal(changed, values), f"byte {place}"
    assert read_cached(tmp_path / "none", "map") is None


def test_read_cached_file_of_an_earlier_version_is_returned(tmp_path: Path) -> None:
    write_tensors(tmp_path / "old", {"map": torch.ones(3)})
    found = read_cached(tmp_path / "old", "map")
    assert found is not None
    assert torch.equal(found, torch.ones(3))


def test_read_pickled_tensors_compressed_archive_raises(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(10_000)}, tmp_path / "w.pt")
    assert read_pickled_tensors(tmp_path / "w.pt")["a"].shape == (10_000,)
    with zipfile.ZipFile(tmp_path / "w.pt") as whole, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="compressed, which it never is"):
        read_pickled_tensors(tmp_path / "bomb.pt")
