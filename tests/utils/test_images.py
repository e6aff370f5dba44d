import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from clips4.errors import UserError
from clips4.utils.images import (
    UNKNOWN_COLOR,
    blend,
    boundaries,
    color_labels,
    encode_png,
    load_rgb,
    palette,
    range_settings,
    reduce_to,
)
from tests.helpers import noise_image, provable

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


# -------------------------------------------------------------------------------------------------------- decoding


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_lossless_images_come_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise_image(20, 30)).save(path)
    image = load_rgb(path)
    assert np.array_equal(image, noise_image(20, 30))
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert np.array_equal(load_rgb(str(path)), image)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_images_come_back_nearly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise_image(32, 48)).save(path, quality=95)
    assert np.abs(load_rgb(path).astype(int) - noise_image(32, 48)).mean() < 6


def test_suffix_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encode_png(noise_image(20, 30)))
    assert np.array_equal(load_rgb(path), noise_image(20, 30))


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.transpose(1, 0, 2)),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: x[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda x: np.rot90(x)),
    ],
)
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int, turn: object) -> None:
    assert callable(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise_image(20, 30)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(load_rgb(tmp_path / "a.png"), turn(noise_image(20, 30)))


def test_exif_rotation_of_a_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise_image(16, 32)).save(tmp_path / "a.jpg", exif=exif)
    assert load_rgb(tmp_path / "a.jpg").shape == (32, 16, 3)


def test_sixteen_bit_gray_is_scaled_down(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert load_rgb(tmp_path / "a.png")[0].tolist() == [[v] * 3 for v in (0, 1, 128, 255)]


def test_load_rgb_sixteen_bit_tiff_is_scaled_down(tmp_path: Path) -> None:
    deep = np.array([[0, 1000], [30000, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.tif")
    assert load_rgb(tmp_path / "a.tif")[..., 0].tolist() == [[0, 4], [117, 255]]


def test_float_tiff_in_0_to_1_and_beyond(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "unit.tif")
    Image.fromarray(np.array([[-10.0, 0.0, 10.0, np.nan]], np.float32)).save(tmp_path / "wide.tif")
    assert load_rgb(tmp_path / "unit.tif")[0, :, 0].tolist() == [0, 128, 255]
    assert load_rgb(tmp_path / "wide.tif")[0, :3, 0].tolist() == [0, 128, 255]


def gray_of(path: Path) -> list[int]:
    return load_rgb(path)[0, :, 0].tolist()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "a.jp2"])
def test_load_rgb_sixteen_bits_keep_one_scale_in_dark_and_bright_frames(tmp_path: Path, name: str) -> None:
    dark, bright = np.array([[0, 200, 255, 0]], np.uint16), np.array([[0, 200, 255, 65535]], np.uint16)
    for values, last in ((dark, 0), (bright, 255)):
        Image.fromarray(values).save(tmp_path / name)
        assert gray_of(tmp_path / name) == [0, 1, 1, last]


def test_load_rgb_sixteen_bits_with_a_sign_are_scaled_from_their_whole_range(tmp_path: Path) -> None:
    header = TiffImagePlugin.ImageFileDirectory_v2()
    header[339] = 2
    for values in ([-32768, 0, 32767], [0, 5, 5]):
        Image.fromarray(np.array([values], np.int16).view(np.uint16)).save(tmp_path / "a.tif", tiffinfo=header)
        assert gray_of(tmp_path / "a.tif") == [round(255 * (value + 32768) / 65535) for value in values]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0, np.nan], [0, 128, 255, 0]),
        ([0.0, 0.5, 1.0, np.inf], [0, 128, 255, 0]),
        ([0.0, 0.5, 1.0, -np.inf], [0, 128, 255, 0]),
        ([0.0, 0.5, 1.0, -9999.0], [0, 128, 255, 0]),
        ([0.0, 0.5, 1.0, -3.4028235e38], [0, 128, 255, 0]),
        ([0.0, 0.5, 1.0, 9.96921e36], [0, 128, 255, 0]),
        ([100.0, 200.0, 300.0, -32768.0], [0, 128, 255, 0]),
        ([-20000.0, 0.0, 20000.0, -9999.0], [0, 128, 255, 64]),  # within the values: it is one of them
        ([-9999.0, -999.0, 0.5, 1.0], [0, 0, 128, 255]),
        ([np.nan, np.nan], [0, 0]),
        ([-9999.0, np.inf], [0, 0]),
        ([7.0, 7.0], [0, 0]),
    ],
)
def test_load_rgb_floats_are_scaled_by_what_is_valid(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    assert gray_of(tmp_path / "a.tif") == expected


@pytest.mark.parametrize(("text", "expected"), [("5", [0, 0, 255]), ("nan", [0, 128, 255]), ("n/a", [0, 128, 255])])
def test_load_rgb_value_of_no_data_is_read_from_the_file(tmp_path: Path, text: str, expected: list[int]) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = text
    Image.fromarray(np.array([[0, 5, 10]], np.float32)).save(tmp_path / "a.tif", tiffinfo=tags)
    assert gray_of(tmp_path / "a.tif") == expected


def test_load_rgb_integers_of_32_bits_below_zero_are_scaled_by_what_is_valid(tmp_path: Path) -> None:
    for values, expected in (([-10, 0, 10], [0, 128, 255]), ([-9999, 0, 255], [0, 0, 255]), ([0, 1, 255], [0, 1, 255])):
        Image.fromarray(np.array([values], np.int32)).save(tmp_path / "a.tif")
        assert gray_of(tmp_path / "a.tif") == expected


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_load_rgb_stated_range_holds_for_every_file(
    tmp_path: Path, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPS4_VALUE_RANGE", "100,4100")
    for values in ([100, 2100, 4100], [0, 2100, 9000]):
        Image.fromarray(np.array([values], dtype)).save(tmp_path / "a.tif")
        assert gray_of(tmp_path / "a.tif") == [0, 128, 255]
    Image.fromarray(np.array([[0, 7, 255]], np.uint8)).save(tmp_path / "a.tif")
    assert gray_of(tmp_path / "a.tif") == [0, 7, 255], "8 bits stay as they are"


@pytest.mark.parametrize("text", ["1", "5,5", "9,1", "0,inf", "nan,1", "a,b", "1,2,3"])
def test_load_rgb_stated_range_that_is_none_raises(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPS4_VALUE_RANGE", text)
    Image.fromarray(np.zeros((1, 2), np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=f"CLIPS4_VALUE_RANGE={text}: give the values of black and white"):
        load_rgb(tmp_path / "a.png")


def test_deep_image_of_one_value(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "a.png")
    assert load_rgb(tmp_path / "a.png").tolist() == np.zeros((4, 5, 3)).tolist()


def test_load_rgb_cmyk_jpeg_has_its_colors(tmp_path: Path) -> None:
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan: red
    picture.save(tmp_path / "a.jpg", quality=95)
    image = load_rgb(tmp_path / "a.jpg")
    assert image.shape == (16, 16, 3)
    assert image[..., 0].min() > 240
    assert image[..., 1:].max() < 15


@pytest.mark.parametrize(("mode", "value", "rgb"), [("L", 77, (77, 77, 77)), ("1", 1, WHITE), ("1", 0, BLACK)])
def test_load_rgb_gray_or_bilevel_has_3_channels(
    tmp_path: Path, mode: str, value: int, rgb: tuple[int, int, int]
) -> None:
    Image.new(mode, (3, 2), value).save(tmp_path / "a.png")
    assert load_rgb(tmp_path / "a.png").reshape(-1, 3).tolist() == [list(rgb)] * 6


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in (RED, GREEN, BLUE)]
    for name in ("a.gif", "a.webp", "a.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        image = load_rgb(tmp_path / name)
        assert image.shape == (6, 8, 3)
        assert (image == RED).all(), name


def test_palette_images_show_their_colors(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 1]], np.uint8)
    (tmp_path / "a.png").write_bytes(encode_png(labels, [RED, GREEN, BLUE]))
    assert load_rgb(tmp_path / "a.png").tolist() == [[list(RED), list(GREEN)], [list(BLUE), list(GREEN)]]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert load_rgb(tmp_path / "a.png").tolist() == [[list(RED), list(WHITE), [127, 127, 127]]]


def test_transparency_of_gray_and_palette_images_too(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[0, 255], [0, 0]]], np.uint8), "LA").save(tmp_path / "grey.png")
    assert load_rgb(tmp_path / "grey.png").tolist() == [[list(BLACK), list(WHITE)]]
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    image.putpalette([*RED, *BLUE])
    image.save(tmp_path / "palette.png", transparency=1)
    assert load_rgb(tmp_path / "palette.png").tolist() == [[list(RED), list(WHITE)]]
    Image.new("RGB", (2, 1), GREEN).save(tmp_path / "key.png", transparency=GREEN)
    assert (load_rgb(tmp_path / "key.png") == WHITE).all()


def test_load_rgb_one_pixel_has_size_one(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), GREEN).save(tmp_path / "a.png")
    assert load_rgb(tmp_path / "a.png").tolist() == [[list(GREEN)]]


# ---------------------------------------------------------------------------------------------------------- errors


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        load_rgb(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_rgb_missing_file_raises(tmp_path: Path) -> None:
    assert_refused(tmp_path / "gone.png", "no such file")


@pytest.mark.parametrize(
    "content", [b"", b"just text\n", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", b"%PDF-1.4"]
)
def test_text_and_stumps_by_the_name_of_an_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert_refused(path, "not an image|damaged image")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tiff", "bmp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_load_rgb_truncated_file_raises(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise_image(40, 60)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert_refused(path, "not an image|damaged image")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tiff", "bmp"])
@pytest.mark.filterwarnings("ignore")  # Pillow complains of what it skips
def test_changed_byte_is_never_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setenv("CLIPS4_MAX_MEGAPIXELS", "0.1")  # changed sizes cost no memory
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise_image(8, 9)).save(path)
    data = path.read_bytes()
    refused = 0
    for place in range(0, len(data), max(1, len(data) // 100)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            assert load_rgb(path).ndim == 3
        except UserError:
            refused += 1
    assert refused > 0


def test_folder_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    assert_refused(tmp_path / "a.png", "directory|folder")


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (100_000, 100_000), (2**26 + 1, 1)])
def test_huge_images_are_refused_unread(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(width, height))
    assert_refused(path, "pixels")


def test_image_below_the_limit_raises_no_size_error(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png_header(8000, 8000))  # and truncated
    with pytest.raises(UserError) as caught:
        load_rgb(path)
    assert "too many" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_large_image_is_read_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns above its own limit, which stands in here for 89 million pixels."""
    Image.fromarray(noise_image(10, 15)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert load_rgb(tmp_path / "a.png").shape == (10, 15, 3)


# ---------------------------------------------------------------------------------------------------- sizes, tensors


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(100, 200, (50, 100)), (200, 100, (100, 50)), (99, 100, (99, 100)), (40, 30, (40, 30)), (1, 1000, (1, 100))],
)
def test_long_side_is_reduced_and_never_enlarged(height: int, width: int, shape: tuple[int, int]) -> None:
    image = noise_image(height, width)
    reduced = reduce_to(image, 100)
    assert reduced.shape == (*shape, 3)
    assert reduced.dtype == np.uint8
    assert np.array_equal(reduced, image) == (max(height, width) <= 100)
    assert abs(reduced.mean() - image.mean()) < 3


# ---------------------------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize("count", [0, 1, 2, 21, 171, 256])
def test_colors_of_a_palette_are_all_different(count: int) -> None:
    colors = palette(count)
    assert colors.shape == (count, 3)
    assert colors.dtype == np.uint8
    assert len({tuple(color) for color in colors.tolist()} | {UNKNOWN_COLOR, BLACK, WHITE}) == count + 3


def test_longer_palette_begins_like_a_shorter_one() -> None:
    assert np.array_equal(palette(50)[:20], palette(20))


def test_first_colors_raise_apart_by_eye() -> None:
    colors = palette(21).astype(float)
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 1e3 * np.eye(21)
    assert distance.min() > 20


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_take_their_colors_and_others_are_gray(dtype: type[np.integer]) -> None:
    colors = palette(3)
    values = [0, 2, 3, 255] if dtype is np.uint8 else [0, 2, 3, -1]
    painted = color_labels(np.array([values]).astype(dtype), colors)
    expected = [colors[0].tolist(), colors[2].tolist(), list(UNKNOWN_COLOR), list(UNKNOWN_COLOR)]
    assert painted.tolist() == [expected]
    assert painted.dtype == np.uint8


def test_eight_bit_labels_with_more_colors_than_they_can_name() -> None:
    colors = palette(300)
    assert color_labels(np.array([[0, 255]], np.uint8), colors).tolist() == [colors[[0, 255]].tolist()]


def test_boundaries_lie_left_of_and_above_a_change() -> None:
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 2]])
    expected = [[False, True, False], [True, True, True], [False, False, False]]
    assert boundaries(labels).tolist() == expected
    assert not boundaries(np.zeros((3, 4), int)).any()
    assert boundaries(np.zeros((1, 1), int)).tolist() == [[False]]


def test_blend_mixes_and_draws_lines() -> None:
    image, colors = np.zeros((1, 3, 3), np.uint8), np.full((1, 3, 3), 200, np.uint8)
    assert np.array_equal(blend(image, colors, 0), image)
    assert np.array_equal(blend(image, colors, 1), colors)
    half = blend(image, colors, 0.5, np.array([[True, False, False]]))
    assert half[0, :, 0].tolist() == [255, 100, 100]
    assert half.dtype == np.uint8
    assert not image.any()


@provable
@given(st.floats(0, 1), st.integers(0, 255), st.integers(0, 255))
def test_blend_stays_between_its_colors(alpha: float, a: int, b: int) -> None:
    mixed = blend(np.full((1, 1, 3), a, np.uint8), np.full((1, 1, 3), b, np.uint8), alpha)
    assert min(a, b) <= mixed.min() <= mixed.max() <= max(a, b)


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    "image",
    [
        noise_image(5, 7),
        np.arange(35, dtype=np.uint8).reshape(5, 7),
        (np.arange(35, dtype=np.uint16) * 1800).reshape(5, 7),
        noise_image(7, 5).transpose(1, 0, 2),
    ],
)
def test_png_comes_back_bit_for_bit(image: NDArray[np.generic]) -> None:
    assert np.array_equal(np.asarray(Image.open(BytesIO(encode_png(image)))), image)


def test_palette_png_keeps_labels_and_colors() -> None:
    labels = np.array([[0, 1, 2], [255, 7, 0]], np.uint8)
    image = Image.open(BytesIO(encode_png(labels, palette(256).tolist())))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), labels)
    assert np.array_equal(np.asarray(image.convert("RGB")), palette(256)[labels])


def test_range_settings_differ_by_the_stated_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLIPS4_VALUE_RANGE", raising=False)
    assert range_settings() == {}
    monkeypatch.setenv("CLIPS4_VALUE_RANGE", "0,4095")
    assert range_settings() == {"value_range": (0.0, 4095.0)}
