"""The one door for image files: formats, limits, orientation, and what hostile or damaged files raise."""

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from clips4.errors import UserError
from clips4.utils.image_file import image_size, open_image, read_array
from clips4.utils.images import load_rgb
from tests.helpers import noise_image, photograph


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_zeros(width: int, height: int, bits: int, color: int = 0) -> bytes:
    """A whole PNG; zeros compress to next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = (width * bits * {0: 1, 2: 3, 6: 4}[color] + 7) // 8 + 1
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(row * height), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def exif_with(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of raw entries: tag, type, count, four bytes; valid or not."""
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)


TURN_RIGHT = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


# ------------------------------------------------------------------------------------- sound images, against Pillow


MODES = {
    "PNG": "RGB L P 1 RGBA LA",
    "JPEG": "RGB L CMYK",
    "TIFF": "RGB L P 1 CMYK RGBA LA LAB",
    "WEBP": "RGB RGBA",
    "GIF": "RGB L P 1 RGBA",
    "BMP": "RGB L P 1 RGBA",
    "PPM": "RGB L 1",
    "JPEG2000": "RGB L RGBA LA",
    "AVIF": "RGB RGBA",
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes.split()])
@pytest.mark.parametrize("turn", [1, 6])
def test_load_rgb_sound_image_equals_pillow(kind: str, mode: str, turn: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    photograph(40, 56).convert(mode).save(tmp_path / "image", kind, exif=exif)
    with Image.open(BytesIO((tmp_path / "image").read_bytes())) as opened:  # by path, Pillow garbles turned gray TIFFs
        opened.load()
        upright = ImageOps.exif_transpose(opened)
        if "A" in upright.getbands() or "transparency" in upright.info:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        np.testing.assert_array_equal(load_rgb(tmp_path / "image"), np.array(upright.convert("RGB")))
    assert image_size(tmp_path / "image", "") == upright.size


def test_load_rgb_more_rows_than_a_band_equals_pillow(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (2100, 2000, 4), np.uint8)
    for name, image in (("a.png", Image.fromarray(values)), ("b.tif", Image.fromarray(values[..., :3]))):
        image.save(tmp_path / name, compress_level=0)
        white = Image.new("RGBA", image.size, "white")
        expected = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
        np.testing.assert_array_equal(load_rgb(tmp_path / name), np.array(expected))


def test_load_rgb_several_images_in_a_jpeg_gives_the_first(tmp_path: Path) -> None:
    first, second = photograph(seed=1), photograph(seed=2)
    first.save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=[second])
    data = (tmp_path / "a.mpo").read_bytes()
    (tmp_path / "b.jpg").write_bytes(data.replace(b"MPF\0II*\0", b"MPF\0II*\1"))  # a damaged list of images
    with Image.open(tmp_path / "a.mpo") as image:
        for name in ("a.mpo", "b.jpg"):
            np.testing.assert_array_equal(load_rgb(tmp_path / name), np.array(image))


# ------------------------------------------------------------------------------------------------------------ tags


@pytest.mark.parametrize(
    "entry",
    [
        (0x010F, 11, 1, struct.pack("<f", 1.5)),  # the maker as a float
        (0x0100, 11, 1, struct.pack("<f", 1.5)),  # the width as a float
        (0x0132, 4, 1, bytes(4)),  # the date as a number
        (0x8769, 2, 4, b"abc\0"),  # where text belongs a directory
        (0x8825, 4, 1, b"\xff\xff\xff\xff"),  # a directory beyond the end
        (0x9000, 99, 7, bytes(4)),  # a type that there is not
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_load_rgb_tag_of_a_wrong_type_turns_the_pixels_all_the_same(
    entry: tuple[int, int, int, bytes], kind: str, tmp_path: Path
) -> None:
    image = photograph(40, 56)
    options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
    (tmp_path / "plain").write_bytes(encoded(image, kind, **options))
    (tmp_path / "odd").write_bytes(encoded(image, kind, exif=exif_with(entry, TURN_RIGHT), **options))
    np.testing.assert_array_equal(load_rgb(tmp_path / "odd"), np.rot90(load_rgb(tmp_path / "plain"), -1))
    assert image_size(tmp_path / "odd", "") == (40, 56)


@pytest.mark.parametrize(
    "turn",
    [(0x0112, 3, 1, b"\x09\0\0\0"), (0x0112, 2, 4, b"six\0"), (0x0112, 4, 1, b"\x06\0\1\0")],
)
def test_load_rgb_orientation_that_there_is_not_leaves_the_pixels(
    turn: tuple[int, int, int, bytes], tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(photograph(40, 56), "JPEG", exif=exif_with(turn)))
    assert load_rgb(tmp_path / "a.jpg").shape == (40, 56, 3)


# --------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("kind", ["EPS", "PDF", "TGA", "ICO", "PCX", "DDS", "SGI", "IM", "XBM", "MSP", "BLP"])
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_load_rgb_other_format_raises_and_runs_no_program(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    mode = {"XBM": "1", "MSP": "1", "BLP": "P"}.get(kind, "RGB")
    (tmp_path / name).write_bytes(encoded(photograph(32, 32).convert(mode), kind))
    with pytest.raises(UserError, match=rf"{name}: not an image, or of an unsupported format"):
        load_rgb(tmp_path / name)


def test_load_rgb_heic_without_plugin_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(UserError, match=r"clips4\[heif\]|damaged"):
        load_rgb(tmp_path / "a.heic")


def test_load_rgb_heic_with_the_plugin_is_read_or_raises(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    image = photograph(40, 56)
    image.save(tmp_path / "a.heic", "HEIF", quality=95)
    assert np.abs(load_rgb(tmp_path / "a.heic").astype(int) - np.asarray(image)).mean() < 8
    data = (tmp_path / "a.heic").read_bytes()
    for damaged in (data[:-40], data[:100], data.replace(b"ispe\0\0\0\0\0\0\0", b"ispe\0\0\0\0\xff\xff\xff")):
        (tmp_path / "b.heic").write_bytes(damaged)
        with pytest.raises(UserError, match=r"b\.heic: "):
            load_rgb(tmp_path / "b.heic")


def test_load_rgb_pipe_raises_instead_of_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg: not a regular file"):
        load_rgb(tmp_path / "a.jpg")


# ---------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(("bits", "color"), [(1, 0), (8, 2), (16, 0), (16, 6)])
def test_load_rgb_bomb_raises_before_decoding(
    bits: int, color: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPS4_MAX_MEGAPIXELS", "0.5")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded"))
    (tmp_path / "bomb.png").write_bytes(png_of_zeros(1000, 1000, bits, color))
    with pytest.raises(
        UserError, match=r"bomb.png: 1000 x 1000 .*limit: 0.5 megapixels.*raise the limit CLIPS4_MAX_MEGAPIXELS"
    ):
        load_rgb(tmp_path / "bomb.png")


def test_load_rgb_larger_than_the_default_limit_is_read_where_the_limit_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large.png").write_bytes(png_of_zeros(2**26 + 8, 1, 1))
    with pytest.raises(UserError, match="limit: 64 megapixels"):
        load_rgb(tmp_path / "large.png")
    monkeypatch.setenv("CLIPS4_MAX_MEGAPIXELS", "65")
    assert image_size(tmp_path / "large.png", "") == (2**26 + 8, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # far below ours: it gives way, and comes back
    assert image_size(tmp_path / "large.png", "") == (2**26 + 8, 1)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("text", ["many", "-1", "0", "nan", "inf"])
def test_load_rgb_limit_that_is_no_number_raises(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPS4_MAX_MEGAPIXELS", text)
    Image.fromarray(noise_image(4, 4)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=f"CLIPS4_MAX_MEGAPIXELS={text}: not a positive number"):
        load_rgb(tmp_path / "a.png")


def progressive(scans: int, size: int = 4000) -> bytes:
    data = encoded(Image.new("L", (size, size)), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + data[-2:]


def test_load_rgb_thousands_of_scans_raises_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(progressive(3000))
    with pytest.raises(UserError, match=r"a.jpg: more than \d+ scans in a progressive JPEG"):
        load_rgb(tmp_path / "a.jpg")


def test_load_rgb_few_scans_and_bytes_that_look_like_scans_are_read(tmp_path: Path) -> None:
    small = progressive(50, 100)
    (tmp_path / "few.jpg").write_bytes(small)
    assert load_rgb(tmp_path / "few.jpg").shape == (100, 100, 3)
    video = b"\xff\xda" * 50_000_000  # behind the image, as phones store short videos
    (tmp_path / "phone.jpg").write_bytes(progressive(0, 2000) + video[:4_000_000])
    assert load_rgb(tmp_path / "phone.jpg").shape == (2000, 2000, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_load_rgb_beyond_its_seconds_raises(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPS4_MAX_SECONDS", "1e-9")
    (tmp_path / "a").write_bytes(encoded(photograph(), kind))
    with pytest.raises(UserError, match=r"a: decoding takes more than 1e-09 seconds.*CLIPS4_MAX_SECONDS"):
        load_rgb(tmp_path / "a")


# ---------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    "error", [ValueError, TypeError, AttributeError, RuntimeError, ZeroDivisionError, OverflowError]
)
def test_open_image_whatever_a_decoder_raises_is_one_line_that_names_the_file(
    error: type[Exception], tmp_path: Path
) -> None:
    Image.fromarray(noise_image(4, 4)).save(tmp_path / "a.png")
    with (
        pytest.raises(UserError, match=r"^a.png: damaged mask \(two lines\); copy it again"),
        open_image(tmp_path / "a.png", "a.png", "mask"),
    ):
        raise error("two\nlines")


def test_open_image_out_of_memory_is_reported(tmp_path: Path) -> None:
    Image.fromarray(noise_image(4, 4)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a.png: not enough memory"), open_image(tmp_path / "a.png", "a.png"):
        raise MemoryError


# ---------------------------------------------------------------------------------------------------------- arrays


def test_read_array_equals_what_was_saved(tmp_path: Path) -> None:
    for values in (noise_image(5, 6), np.arange(6.0).reshape(2, 3).T, np.array([[True, False]])):
        np.save(tmp_path / "a.npy", values)
        np.testing.assert_array_equal(read_array(tmp_path / "a.npy", "edge map"), values)


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"no array",
    "version": lambda: b"\x93NUMPY\x09\x00" + bytes(100),
    "huge": lambda: npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }", bytes(80)),
    "negative": lambda: npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 4), }", bytes(80)),
    "overflow": lambda: npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 4), }", bytes(80)),
    "code": lambda: npy("__import__('os').system('touch ran')"),
    "nested": lambda: npy("{'descr': " + "(" * 40 + ")" * 40 + "}"),
    "record": lambda: npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1, 1), }", bytes(8)),
    "no values": lambda: npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4), }"),
    "long header": lambda: b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b" " * 100,
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_read_array_hostile_file_raises(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.npy").write_bytes(HOSTILE[name]())
    with pytest.raises(UserError, match=r"a\.npy"):
        read_array(Path("a.npy"), "edge map")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy"]


def test_read_array_pickle_raises_unread(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[Trap()]], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"a.npy: not a readable edge map"):
        read_array(tmp_path / "a.npy", "edge map")


class Trap:
    """Fails the test where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("unpickled",)


def test_read_array_larger_than_the_limit_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPS4_MAX_MEGAPIXELS", "0.0001")
    np.save(tmp_path / "a.npy", np.zeros((11, 10)))
    with pytest.raises(UserError, match=r"a.npy: \(11, 10\) values are too many"):
        read_array(tmp_path / "a.npy", "edge map")


def test_open_image_damaged_tiff_prints_nothing(tmp_path: Path) -> None:
    data = bytearray(encoded(photograph(40, 56), "TIFF", compression="tiff_lzw"))
    data[8:200] = bytes(192)
    (tmp_path / "a.tif").write_bytes(data)
    program = """
import sys
from PIL import Image
if sys.argv[2] == "ours":
    import clips4.utils.image_file
image = Image.open(sys.argv[1])
try:
    image.load()
except OSError:
    print("raised")
"""
    theirs, ours = (
        subprocess.run([sys.executable, "-c", program, tmp_path / "a.tif", whose], capture_output=True, check=True)
        for whose in ("theirs", "ours")
    )
    assert theirs.stderr, "libtiff has something to print about this file"
    assert (ours.stdout, ours.stderr) == (b"raised\n", b"")
