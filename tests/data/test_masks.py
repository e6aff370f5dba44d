"""Object masks of DAVIS: which rules fit, the objects of a sequence, and the palette."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clips4.data.masks import are_binary, davis_palette, find_objects, first_masks, read_mask
from clips4.errors import UserError
from tests.helpers import shared


def save(folder: Path, *masks: list[int]) -> list[Path]:
    """Masks of one row each."""
    paths = [folder / f"{index:05d}.png" for index in range(len(masks))]
    for path, values in zip(paths, masks, strict=True):
        Image.fromarray(np.array([values], np.uint8)).save(path)
    return paths


def test_find_objects_0_and_255_alone_are_one_object(tmp_path: Path) -> None:
    paths = save(tmp_path, [0, 255], [0, 0])
    assert find_objects(paths).rules == "davis16"
    assert find_objects(paths).first == {1: 0}
    assert read_mask(paths[0], "davis16").tolist() == [[0, 1]]
    assert read_mask(paths[0], "davis17").tolist() == [[0, 0]], "255 is void in 2017"
    assert find_objects(paths, "davis17").first == {}


@pytest.mark.parametrize(
    ("masks", "first"),
    [
        (([5, 9], [9, 5]), {5: 0, 9: 0}),
        (([0, 1], [0, 0], [2, 1]), {1: 0, 2: 2}),
        (([0, 255], [3, 255], [3, 1]), {1: 2, 3: 1}),
        (([0, 0], [0, 254]), {254: 1}),
    ],
)
def test_find_objects_every_mask_counts(tmp_path: Path, masks: tuple[list[int], ...], first: dict[int, int]) -> None:
    found = find_objects(save(tmp_path, *masks))
    assert found.rules == "davis17"
    assert found.first == first


@pytest.mark.parametrize(
    ("masks", "binary"),
    [(([0, 255], [0, 0]), True), (([0, 0], [255, 255]), True), (([0, 255], [0, 1]), False), (([0, 0], [0, 0]), False)],
)
def test_are_binary_0_and_255_alone(tmp_path: Path, masks: tuple[list[int], ...], binary: bool) -> None:
    assert are_binary(save(tmp_path, *masks)) == binary


def test_are_binary_other_value_opens_no_more_masks(tmp_path: Path) -> None:
    assert not are_binary([*save(tmp_path, [0, 7]), tmp_path / "no such file"])


def test_first_masks_hold_each_object_once(tmp_path: Path) -> None:
    given = first_masks(save(tmp_path, [0, 4, 255], [0, 4, 4], [7, 4, 0], [7, 7, 7]))
    assert {index: mask.tolist() for index, mask in given.items()} == {0: [[0, 4, 0]], 2: [[7, 0, 0]]}


def test_read_mask_16_bits_keeps_numbers_and_65535_is_void(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1000, 65535, 3]], np.uint16)).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", "davis17").tolist() == [[0, 1000, 0, 3]]
    assert find_objects([tmp_path / "a.png"]).first == {3: 0, 1000: 0}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[0, 1, 255]], np.uint16), "may be object 255 or void"),
        (np.array([[0, -1]], np.int32), "value -1"),
        (np.full((1, 2, 3), 128, np.uint8), "numbers or DAVIS's colors"),
        (np.array([[[1, 2, 3]]], np.uint8), "#010203 is not in the DAVIS palette"),
    ],
)
def test_read_mask_ambiguous_values_raise(tmp_path: Path, values: NDArray[np.integer], reason: str) -> None:
    path = tmp_path / ("m.tif" if values.dtype == np.int32 else "m.png")
    Image.fromarray(values).save(path)
    with pytest.raises(UserError, match=reason):
        read_mask(path, "davis17")


def test_davis_palette_first_colors_equal_the_published_ones() -> None:
    sequence = sorted((shared("davis16") / "Annotations/480p").iterdir())[0]
    assert find_objects(sorted(sequence.iterdir())[:2]).rules == "davis16"
    assert davis_palette()[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
