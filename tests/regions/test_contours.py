"""Which detector is asked, large pictures, and edge maps from a folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips4.config import RegionConfig
from clips4.errors import UserError
from clips4.regions.contour_map import from_strength
from clips4.regions.contours import find_contours, find_edge_file, read_edge_map
from clips4.regions.gradient import gradient_contours
from clips4.utils.images import reduce_to
from tests.helpers import noise_image

MAP = np.linspace(0, 1, 48 * 64).reshape(48, 64)


def write(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "values", "error"),
    [
        ("a.png", np.round(255 * MAP).astype(np.uint8), 1 / 255),
        ("a.png", np.round(65535 * MAP).astype(np.uint16), 1e-4),
        ("a.npy", MAP.astype(np.float32), 1e-6),
        ("a.npy", np.round(65535 * MAP).astype(np.uint16), 1e-4),
    ],
)
def test_edge_maps_of_every_depth_are_read(tmp_path: Path, name: str, values: np.ndarray, error: float) -> None:
    np.testing.assert_allclose(read_edge_map(write(tmp_path / name, values), (48, 64)), MAP, atol=error)


def test_edge_map_of_another_scale_is_resized(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", MAP.astype(np.float32))
    small = read_edge_map(path, (24, 32))
    assert small.shape == (24, 32)
    np.testing.assert_allclose(small, MAP.reshape(24, 2, 32, 2).mean((1, 3)), atol=0.02)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("a.png", np.zeros((64, 48), np.uint8), "has another aspect than its image"),
        ("a.png", np.zeros((48, 64, 3), np.uint8), "an edge map is gray"),
        ("a.npy", np.full((48, 64), 3.0), "give floats in"),
        ("a.npy", np.full((48, 64), np.nan), "give floats in"),
        ("a.npy", np.zeros((48, 64), complex), "an edge map holds numbers"),
    ],
)
def test_wrong_edge_maps_raise(tmp_path: Path, name: str, values: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_edge_map(write(tmp_path / name, values), (48, 64))


def test_damaged_and_palette_edge_maps_raise(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "b.npy").write_bytes(b"no array")
    Image.fromarray(np.zeros((48, 64), np.uint8)).convert("P").save(tmp_path / "c.png")
    for name, message in (("a.png", "not an edge map"), ("b.npy", "not a readable"), ("c.png", "palette")):
        with pytest.raises(UserError, match=message):
            read_edge_map(tmp_path / name, (48, 64))


def test_edge_file_is_found_by_folder_and_stem(tmp_path: Path) -> None:
    flat = write(tmp_path / "one.png", np.zeros((3, 4), np.uint8))
    nested = write(tmp_path / "cats/one.npy", np.zeros((3, 4)))
    assert find_edge_file(tmp_path, Path("/photos/dogs/one.jpg")) == flat
    assert find_edge_file(tmp_path, Path("/photos/cats/one.jpg")) == nested
    with pytest.raises(UserError, match="no edge map"):
        find_edge_file(tmp_path, Path("/photos/cats/two.jpg"))


def test_edges_from_a_folder_are_the_contours(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", MAP.astype(np.float32))
    settings = RegionConfig(method="edges-ucm", edges=str(tmp_path))
    contours = find_contours(noise_image(48, 64), settings, path)
    np.testing.assert_array_equal(contours.tensor, from_strength(MAP.astype(np.float32)).tensor)


def test_large_images_are_read_reduced(tmp_path: Path) -> None:
    image = noise_image(96, 128)
    settings = RegionConfig(method="gradient-ucm", max_side=64)
    expected = gradient_contours(reduce_to(image, 64))
    np.testing.assert_array_equal(find_contours(image, settings).tensor, expected.tensor)
    whole = find_contours(image, RegionConfig(method="gradient-ucm", max_side=128))
    np.testing.assert_array_equal(whole.tensor, gradient_contours(image).tensor)
    edges = write(tmp_path / "a.npy", MAP.astype(np.float32))
    settings = RegionConfig(method="edges-ucm", edges=str(tmp_path), max_side=64)
    assert find_contours(image, settings, edges).strength.shape == (48, 64)


def test_normal_of_a_ridge_is_across_it() -> None:
    y, x = np.mgrid[:60, :60] - 30
    for angle in (0.0, 0.5, 1.2, 2.5):
        n = np.array([np.cos(angle), np.sin(angle)])
        contours = from_strength(np.exp(-((x * n[0] + y * n[1]) ** 2) / 8), isotropy=0.0)
        xx, xy, yy = contours.tensor[:, 30, 30]
        assert xx * n[0] ** 2 + 2 * xy * n[0] * n[1] + yy * n[1] ** 2 == pytest.approx(1, abs=0.01)


def test_superpixels_are_no_contours() -> None:
    with pytest.raises(ValueError, match="finds no contours"):
        find_contours(noise_image(20, 20), RegionConfig(method="slic"))
