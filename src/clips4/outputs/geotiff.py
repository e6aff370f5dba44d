"""Georeference of a GeoTIFF, written beside its label PNG so that a GIS overlays both.

A PNG cannot hold it: six numbers go to a world file (``.pgw``), the coordinate system to ``.png.aux.xml``. GDAL, and so
QGIS and rasterio, read both beside a PNG.
"""

import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image

_SCALE, _TIE, _MATRIX, _KEYS = 33550, 33922, 34264, 34735  # tags of GeoTIFF 1.1 (OGC 19-008r4)
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072  # keys in its directory
_POINT, _USER_DEFINED = 2, 32767


class Place(NamedTuple):
    """Position of an image on the ground.

    Attributes:
        world: x and y per column, x and y per row, x and y of the first pixel's center: a world file's six lines.
        epsg: code of the coordinate system; None if the file names none.
    """

    world: tuple[float, float, float, float, float, float]
    epsg: int | None


def place_of(path: Path) -> Place | None:
    """The position of an image; None if its file has none, or if EXIF rotates it."""
    if path.suffix.lower() not in {".tif", ".tiff"} or not path.is_file():
        return None
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        if image.format != "TIFF":
            return None
        tags = dict(image.tag_v2)  # type: ignore[attr-defined]
        turned = image.getexif().get(0x0112, 1) != 1
    directory = tags.get(_KEYS, ())
    keys = {directory[i]: directory[i + 3] for i in range(4, len(directory) - 3, 4) if directory[i + 1] == 0}
    half = 0.0 if keys.get(_RASTER_TYPE) == _POINT else 0.5  # coordinates of pixel centers, or of pixel corners
    matrix, scale, tie = tags.get(_MATRIX, ()), tags.get(_SCALE, ()), tags.get(_TIE, ())
    if turned:
        return None
    if len(matrix) == 16:
        a, b, c, d, e, f = (float(matrix[i]) for i in (0, 1, 3, 4, 5, 7))
        world = (a, d, b, e, c + half * (a + b), f + half * (d + e))
    elif len(scale) >= 2 and len(tie) == 6:
        across, down = float(scale[0]), -float(scale[1])
        world = (across, 0.0, 0.0, down, tie[3] + (half - tie[0]) * across, tie[4] + (half - tie[1]) * down)
    else:
        return None
    code = keys.get(_PROJECTED) or keys.get(_GEOGRAPHIC)
    return Place(world, code if code and code < _USER_DEFINED else None)


def files_beside(name: str, place: Place) -> dict[str, bytes]:
    """The files that georeference a PNG, name -> content: ``STEM.pgw``, and ``STEM.png.aux.xml`` if a code is known."""
    files = {name.removesuffix(".png") + ".pgw": "".join(f"{value!r}\n" for value in map(float, place.world)).encode()}
    if place.epsg is not None:
        files[f"{name}.aux.xml"] = f"<PAMDataset>\n  <SRS>EPSG:{place.epsg}</SRS>\n</PAMDataset>\n".encode()
    return files
