from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips4.data.image_folder import MIN_SIDE, load_training_image
from clips4.errors import UserError
from tests.helpers import noise_image


def save(path: Path, height: int, width: int) -> Path:
    Image.fromarray(noise_image(height, width)).save(path)
    return path


def test_photograph_smaller_than_the_long_side_stays_as_it_is(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 40, 60)
    assert np.array_equal(load_training_image(path, 64), noise_image(40, 60))


@pytest.mark.parametrize(("height", "width", "shape"), [(100, 200, (64, 128, 3)), (200, 100, (128, 64, 3))])
def test_photograph_is_reduced_to_its_long_side(
    tmp_path: Path, height: int, width: int, shape: tuple[int, int, int]
) -> None:
    assert load_training_image(save(tmp_path / "a.png", height, width), 128).shape == shape


@pytest.mark.parametrize(("height", "width"), [(MIN_SIDE - 1, 100), (100, MIN_SIDE - 1), (1, 1)])
def test_too_small_a_photograph_is_refused_with_its_size(tmp_path: Path, height: int, width: int) -> None:
    with pytest.raises(UserError, match=rf"a\.png: {width} x {height} pixels are too few"):
        load_training_image(save(tmp_path / "a.png", height, width), 64)


def test_photograph_of_the_least_size_is_taken(tmp_path: Path) -> None:
    assert load_training_image(save(tmp_path / "a.png", MIN_SIDE, MIN_SIDE), 64).shape == (MIN_SIDE, MIN_SIDE, 3)


def test_photograph_too_narrow_once_reduced_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="400 x 40 pixels are too narrow"):
        load_training_image(save(tmp_path / "a.png", 40, 400), 128)
