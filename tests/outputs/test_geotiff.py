"""Places of GeoTIFFs, written with the tags by hand, and what lies beside a PNG; label maps as rasterio reads them."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from clips4.errors import UserError
from clips4.outputs.encode import check_names, label_values
from clips4.outputs.geotiff import files_beside, label_geotiff, place_of
from clips4.outputs.labeled_image import LabeledImage

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


LABELS = np.array([[0, 1, -1], [1, 1, 0]], np.int16)
RESULT = LabeledImage(np.zeros((2, 3, 3), np.uint8), LABELS, np.zeros((2, 3), np.float32), ("roof", "tree & bush"))


def written(source: Path, target: Path) -> Any:
    """The label map of an image, opened by rasterio."""
    rasterio = pytest.importorskip("rasterio", reason="the extra 'geo' is not installed")
    target.write_bytes(label_geotiff(*label_values(RESULT), RESULT.names, source))
    return rasterio.open(target)


def image_at(path: Path, **place: Any) -> Path:
    rasterio = pytest.importorskip("rasterio", reason="the extra 'geo' is not installed")
    with rasterio.open(path, "w", driver="GTiff", height=2, width=3, count=3, dtype="uint8", **place) as file:
        file.write(RESULT.image.transpose(2, 0, 1))
    return path


# a system without an EPSG code, which a world file cannot name
@pytest.mark.parametrize("crs", ["EPSG:32633", "+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84 +units=m"])
def test_label_geotiff_lies_where_its_image_lies(tmp_path: Path, crs: str) -> None:
    rasterio = pytest.importorskip("rasterio", reason="the extra 'geo' is not installed")
    turned = rasterio.Affine(0.5, 0.1, 500000, 0.1, -0.25, 5600000)
    with written(image_at(tmp_path / "a.tif", crs=crs, transform=turned), tmp_path / "labels.tif") as file:
        assert file.crs == rasterio.crs.CRS.from_string(crs)
        assert file.transform.almost_equals(turned)
        assert (file.nodata, file.dtypes) == (255, ("uint8",))
        np.testing.assert_array_equal(file.read(1), np.where(LABELS < 0, 255, LABELS))
        assert file.tags(1) == {"class_0": "roof", "class_1": "tree & bush"}
        assert file.colormap(1)[1][:3] == tuple(label_values(RESULT)[1][1])  # type: ignore[index]


def test_label_geotiff_keeps_ground_control_points(tmp_path: Path) -> None:
    control = pytest.importorskip("rasterio.control", reason="the extra 'geo' is not installed")
    points = [control.GroundControlPoint(row, col, 10.0 + col, 50.0 - row) for row in (0, 2) for col in (0, 3)]
    with written(image_at(tmp_path / "a.tif", crs="EPSG:4326", gcps=points), tmp_path / "labels.tif") as file:
        found, crs = file.gcps
        assert [(each.row, each.col, each.x, each.y) for each in found] == [(p.row, p.col, p.x, p.y) for p in points]
        assert crs.to_epsg() == 4326


def test_label_geotiff_of_a_jpeg_with_a_world_file_has_its_transform(tmp_path: Path) -> None:
    Image.fromarray(RESULT.image).save(tmp_path / "a.jpg")
    (tmp_path / "a.jgw").write_text("2\n0\n0\n-2\n101\n199\n")
    with written(tmp_path / "a.jpg", tmp_path / "labels.tif") as file:
        assert tuple(file.transform)[:6] == (2, 0, 100, 0, -2, 200)


@pytest.mark.parametrize("case", ["plain", "turned", "stream"])
def test_label_geotiff_without_a_place_is_a_plain_tiff(tmp_path: Path, case: str) -> None:
    source = tmp_path / "a.tif"
    tags: dict[int, tuple[float, ...]] = {33550: (1.0, 1.0, 0.0), 33922: (0.0,) * 6}
    if case != "stream":  # a member of a shard is no file
        geotiff(source, tags if case == "turned" else {}, turned=case == "turned")
    with warnings.catch_warnings(action="ignore"), written(source, tmp_path / "labels.tif") as file:
        assert file.crs is None
        assert file.transform.is_identity
        np.testing.assert_array_equal(file.read(1), np.where(LABELS < 0, 255, LABELS))


def test_geotiff_without_rasterio_is_one_line_before_any_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(UserError, match=r"needs the package rasterio; pip install 'clips4\[geo\]', or save png"):
        check_names(["geotiff"], ["roof"])
