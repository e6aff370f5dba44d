"""Label maps as they are stored, or refused with the reason."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clips4.data.label_maps import (
    IGNORE,
    WIDE_IGNORE,
    apply_table,
    check_depth,
    distinct,
    find_label_maps,
    ignore_value,
    ignore_wide,
    read_labels,
)
from clips4.errors import UserError


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed_png(values: NDArray[np.integer], bits: int) -> bytes:
    """A gray PNG of 1, 2 or 4 bits."""
    height, width = values.shape
    shifts = np.arange(8 - bits, -1, -bits)
    rows = (values.reshape(height, -1, 8 // bits) << shifts).sum(2).astype(np.uint8)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_read_labels_packed_gray_as_stored(tmp_path: Path, bits: int) -> None:
    values = np.arange(2 * 16).reshape(2, 16) % 2**bits
    (tmp_path / "a.png").write_bytes(packed_png(values, bits))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), values)


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [(dtype, suffix) for dtype in (np.uint8, np.uint16) for suffix in ("png", "tif", "npy")]
    + [(np.int32, "tif"), (np.int32, "npy"), (np.float32, "tif"), (np.float64, "npy")],
)
def test_read_labels_any_depth_as_stored(tmp_path: Path, dtype: type[np.number], suffix: str) -> None:
    values = np.array([[0, 7], [255, 250]]).astype(dtype)
    if dtype != np.uint8:
        values[0, 1] = 40_000
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    found = read_labels(path)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("mode", ["P", "LA", "1"])
def test_read_labels_modes_that_hold_one_number_a_pixel(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    if mode == "P":
        image = Image.fromarray(values)
        image.putpalette([9, 9, 9, 200, 10, 10])
    else:
        image = Image.fromarray(values).convert(mode) if mode != "1" else Image.fromarray(values.astype(bool))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), values)


@pytest.mark.parametrize("bits", [1, 8])
def test_read_labels_tiff_whose_white_is_zero_as_stored(tmp_path: Path, bits: int) -> None:
    values = np.array([[0, 1], [1, 1]], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values if bits == 8 else values.astype(bool)).save(buffer, "TIFF")
    black_is_zero, white_is_zero = (struct.pack("<HHIHH", 262, 3, 1, kind, 0) for kind in (1, 0))
    assert black_is_zero in buffer.getvalue()
    (tmp_path / "a.tif").write_bytes(buffer.getvalue().replace(black_is_zero, white_is_zero))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), values)


@pytest.mark.parametrize("array", [np.array([[0.0, 3.0]]), np.array([[True, False]]), np.zeros((1, 4, 5), np.float32)])
def test_read_labels_arrays_of_whole_numbers(tmp_path: Path, array: NDArray[np.generic]) -> None:
    np.save(tmp_path / "a.npy", array)
    found = read_labels(tmp_path / "a.npy")
    assert found.dtype.kind in "iu"
    np.testing.assert_array_equal(found, array.reshape(array.shape[-2:]).astype(int))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_read_labels_own_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    expected = np.rot90(values, {3: 2, 6: -1, 8: 1}[orientation])
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), expected)


def _damaged(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(buffer, "PNG")
    png = buffer.getvalue()
    size = b"IHDR" + struct.pack(">II", 60000, 60000) + png[24:29]
    return {
        "empty": b"",
        "text": b"labels",
        "cut": png[:40],
        "bomb": png[:12] + size + struct.pack(">I", zlib.crc32(size)) + png[33:],
        "short header": png[:8] + png_chunk(b"IHDR", png[16:20]) + png[33:],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "bomb", "short header"])
@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_read_labels_damaged_files_raise_user_error(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(_damaged(kind))
    with pytest.raises(UserError, match=rf"a\.{suffix}: ") as raised:
        read_labels(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8), "colors may be classes or panoptic ids"),
        (np.zeros((2, 2, 3), np.uint8), "RGB"),
        (np.array([[[255, 0, 0, 9], [0, 0, 0, 255]]], np.uint8), "transparent pixels"),
        (np.array([[0.5, 1.0]], np.float32), "fractions"),
        (np.array([[np.nan, 1.0]], np.float32), "NaN"),
    ],
)
def test_read_labels_values_that_are_no_numbers_are_refused(
    tmp_path: Path, values: NDArray[np.generic], reason: str
) -> None:
    path = tmp_path / ("a.tif" if values.dtype == np.float32 else "a.png")
    Image.fromarray(values).save(path)
    with pytest.raises(UserError, match=reason):
        read_labels(path)


@pytest.mark.parametrize("array", [np.zeros((2, 2, 2)), np.zeros(4), np.zeros((0, 3)), np.array([["a"]])])
def test_read_labels_other_arrays_are_refused(tmp_path: Path, array: NDArray[np.generic]) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=r"a\.npy: (an array|an empty array|.*holds numbers)"):
        read_labels(tmp_path / "a.npy")


def test_read_labels_a_false_size_or_a_pickle_needs_no_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (9000000, 9000000), }".ljust(117) + b"\n"
    (tmp_path / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64)
    for name in ("pickle", "huge"):
        with pytest.raises(UserError, match="not a readable label map"):
            read_labels(tmp_path / f"{name}.npy")


def test_read_labels_jpeg_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png", "JPEG")
    with pytest.raises(UserError, match="JPEG changes values"):
        read_labels(tmp_path / "a.png")


def test_find_label_maps_by_suffix_in_any_case(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.npy", "c.tiff", "d.jpg", "e.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_label_maps(tmp_path)] == ["a.npy", "b.PNG", "c.tiff"]
    assert find_label_maps(tmp_path / "none") == []


def test_ignored_values_depend_on_the_number_of_classes(tmp_path: Path) -> None:
    assert [ignore_value(classes) for classes in (2, 255, 256, 900)] == [IGNORE, IGNORE, WIDE_IGNORE, WIDE_IGNORE]
    wide = np.array([[0, 255, 65535]], np.uint16)
    assert ignore_wide(wide, 255).tolist() == [[0, 255, 255]]
    assert ignore_wide(wide, 256).tolist() == [[0, 255, 65535]]
    check_depth(wide, 256, tmp_path)
    check_depth(wide.astype(np.uint8), 255, tmp_path)
    with pytest.raises(UserError, match="may be class 255 or an ignored pixel"):
        check_depth(np.array([[255]], np.uint8), 256, tmp_path)


def test_apply_table_values_beyond_the_table_raise(tmp_path: Path) -> None:
    table = np.array([1, IGNORE], np.uint8)
    assert apply_table(table, np.array([[0, 1]]), tmp_path).tolist() == [[1, IGNORE]]
    with pytest.raises(UserError, match=r"labels 0\.\.2; this set's are 0\.\.1"):
        apply_table(table, np.array([0, 2]), tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("values", [[], [0], [255, 0, 255], [3, 3, 100], list(range(40)), [7, 6, 5]])
def test_distinct_equals_numpy_unique(values: list[int], dtype: type[np.integer]) -> None:
    array = np.array(values, dtype)
    assert distinct(array) == np.unique(array).tolist()


def test_distinct_negative_and_far_values() -> None:
    assert distinct(np.array([[4, -1], [254, -1]], np.int16)) == [-1, 4, 254]
    assert distinct(np.array([2**31, 0, -5], np.int64)) == [-5, 0, 2**31]
