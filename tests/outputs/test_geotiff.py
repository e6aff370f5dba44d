"""Places of GeoTIFFs, written with the tags by hand, and what is told beside a PNG."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from clips4.outputs.geotiff import files_beside, place_of

UTM, WGS = (1, 1, 0, 2, 1025, 0, 1, 1, 3072, 0, 1, 32633), (1, 1, 0, 2, 1025, 0, 1, 2, 2048, 0, 1, 4326)


def geotiff(path: Path, tags: dict[int, tuple[float, ...]], turned: bool = False) -> Path:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, values in tags.items():
        directory.tagtype[tag] = 3 if tag == 34735 else 12
        directory[tag] = values
    if turned:
        directory[0x0112] = 6
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path, tiffinfo=directory)
    return path


def test_place_of_scale_and_tie_point(tmp_path: Path) -> None:
    tags = {33550: (0.5, 0.25, 0.0), 33922: (0.0, 0.0, 0.0, 500000.0, 5600000.0, 0.0)}
    place = place_of(geotiff(tmp_path / "a.tif", {**tags, 34735: UTM}))
    assert place is not None
    assert place.world == (0.5, 0, 0, -0.25, 500000.25, 5599999.875), "from the corner to the first center"
    assert place.epsg == 32633
    points = place_of(geotiff(tmp_path / "b.tiff", {**tags, 34735: WGS}))
    assert points is not None
    assert points.world[4:] == (500000.0, 5600000.0), "pixels are points: the tie point is a center"
    assert points.epsg == 4326
    files = files_beside("a.png", place)
    assert files["a.pgw"].decode().split() == ["0.5", "0.0", "0.0", "-0.25", "500000.25", "5599999.875"]
    assert b"<SRS>EPSG:32633</SRS>" in files["a.png.aux.xml"]


def test_place_of_rotation_matrix(tmp_path: Path) -> None:
    matrix = (0.0, 2.0, 0.0, 10.0, -3.0, 0.0, 0.0, 20.0, *([0.0] * 7), 1.0)
    place = place_of(geotiff(tmp_path / "a.tif", {34264: matrix}))
    assert place is not None
    assert place.world == (0.0, -3.0, 2.0, 0.0, 11.0, 18.5)
    assert place.epsg is None
    assert list(files_beside("a.png", place)) == ["a.pgw"]


@pytest.mark.parametrize("name", ["plain.tif", "turned.tif", "half.tif", "a.png"])
def test_place_of_image_without_position_is_none(tmp_path: Path, name: str) -> None:
    tags: dict[int, tuple[float, ...]] = {33550: (1.0, 1.0, 0.0), 33922: (0.0,) * 6}
    odd: dict[str, dict[int, tuple[float, ...]]] = {"plain.tif": {}, "half.tif": {33550: (1.0, 1.0, 0.0)}}
    given = odd.get(name, tags)
    path = tmp_path / name
    if name.endswith(".png"):
        Image.new("RGB", (2, 2)).save(path)
    else:
        geotiff(path, given, turned=name == "turned.tif")
    assert place_of(path) is None


@pytest.mark.parametrize(
    "tags",
    [
        {33550: (0.0, 0.0, 0.0), 33922: (0.0, 0.0, 0.0, 1.0, 2.0, 0.0)},  # pixels without a size
        {33550: (float("nan"), 1.0, 0.0), 33922: (0.0,) * 6},
        {33550: (1.0, 1.0, 0.0), 33922: (0.0, 0.0, 0.0, float("inf"), 0.0, 0.0)},
        {34264: (float("nan"),) * 16},
        {34264: (0.0,) * 16},
        {33550: (1.0,), 33922: (0.0,) * 6},
    ],
)
def test_place_of_numbers_that_make_no_sense_is_none(tmp_path: Path, tags: dict[int, tuple[float, ...]]) -> None:
    assert place_of(geotiff(tmp_path / "a.tif", tags)) is None


def test_place_of_text_where_numbers_belong_is_none(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in (33550, 33922, 34264, 34735):
        tags.tagtype[tag] = 2
        tags[tag] = "six numbers"
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.tif", tiffinfo=tags)
    assert place_of(tmp_path / "a.tif") is None
