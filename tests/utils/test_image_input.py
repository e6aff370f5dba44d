"""Pictures in every form that a caller may hold, and everything that is none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clips4.errors import UserError
from clips4.utils.image_input import ImageInput, as_rgb, input_name, is_many
from clips4.utils.images import load_rgb
from tests.helpers import photograph, write_broken_images, write_odd_images


def test_every_form_of_an_image_is_the_same_image(tmp_path: Path) -> None:
    image = photograph()
    array = np.array(image)
    image.save(tmp_path / "a.png")
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    forms: list[ImageInput] = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        image,
        array,
        array / 255,
        tensor,
        tensor.double() / 255,
    ]
    for form in forms:
        np.testing.assert_array_equal(as_rgb(form), array)


def test_gray_and_transparent_arrays(tmp_path: Path) -> None:
    gray = np.full((5, 7), 9, np.uint8)
    for form in (gray, gray[..., None]):
        np.testing.assert_array_equal(as_rgb(form), np.full((5, 7, 3), 9))
    clear = np.zeros((5, 7, 4), np.uint8)
    np.testing.assert_array_equal(as_rgb(clear), np.full((5, 7, 3), 255))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("https://example.org/cat.jpg", "download the image"),
        ("s3://bucket/cat.jpg", "download the image"),
        ("file:///home/cat.jpg", "download the image"),
        ("nowhere.png", "no such file"),
        (np.zeros((3, 4, 2), np.uint8), r"got \(3, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.int32), "got int32"),
        (np.zeros((4, 4), bool), "got bool"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), 1.5), "values in"),
        (torch.zeros(4, 4, 3), r"is \(3, H, W\)"),
    ],
)
def test_what_is_no_image_raises(image: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_rgb(image)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sixteen.png", "cmyk.jpg", "moving.gif", "dot.png", "turned.jpg"])
def test_odd_file_and_the_same_opened_by_pil_are_one_image(tmp_path: Path, name: str) -> None:
    path = write_odd_images(tmp_path)[name]
    with Image.open(path) as opened:
        np.testing.assert_array_equal(as_rgb(opened), load_rgb(path))


def test_sixteen_bits_in_an_array_are_those_of_a_file(tmp_path: Path) -> None:
    path = write_odd_images(tmp_path)["sixteen.png"]
    with Image.open(path) as opened:
        values = np.array(opened).astype(np.uint16)
    np.testing.assert_array_equal(as_rgb(values), load_rgb(path))
    np.testing.assert_array_equal(as_rgb(np.stack([values] * 3, 2)), load_rgb(path))


def test_as_rgb_half_precision_tensor_is_read() -> None:
    values = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float16, torch.bfloat16):
        expected = (values.to(dtype).float() * 255).round().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(as_rgb(values.to(dtype)), expected)


@pytest.mark.parametrize("name", ["letter.jpg", "cut.jpg", "empty.png"])
def test_broken_file_raises_in_one_line(tmp_path: Path, name: str) -> None:
    path = write_broken_images(tmp_path)[name]
    with pytest.raises(UserError, match=name) as caught:
        as_rgb(path)
    assert "\n" not in str(caught.value)


def test_truncated_file_that_pil_opened_raises(tmp_path: Path) -> None:
    path = write_broken_images(tmp_path)["cut.jpg"]
    with Image.open(path) as opened, pytest.raises(UserError, match="damaged image"):
        as_rgb(opened)


def test_image_too_large_raises_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPS4_MAX_MEGAPIXELS", "0.0001")
    for form in (np.zeros((11, 10), np.uint8), Image.new("L", (10, 11)), torch.zeros(3, 11, 10)):
        with pytest.raises(UserError, match="10 x 11 pixels are too many"):
            as_rgb(form)


def test_is_many_of_one_or_several_images_is_right() -> None:
    assert is_many([photograph()])
    assert is_many(("a.png",))
    assert not is_many("a.png")
    assert not is_many(np.zeros((2, 2, 3)))
    with pytest.raises(UserError, match="empty list"):
        is_many([])
    assert input_name(Path("a.png")) == "a.png"
    assert input_name(photograph(), 2) == "image 3"
