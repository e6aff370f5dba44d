"""Georeference of a GeoTIFF, written beside its label PNG so that a GIS overlays both.

A PNG cannot hold it: six numbers go to a world file (``.pgw``), the coordinate system to ``.png.aux.xml``. GDAL, and so
QGIS and rasterio, read both beside a PNG.
"""

import math
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from clips4.utils.image_file import open_image, orientation

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
    """The position of an image; None if its file has none or one that makes no sense, or if EXIF rotates it.

    Raises:
        UserError: the file is damaged, or larger than the limits.
    """
    if path.suffix.lower() not in {".tif", ".tiff"} or not path.is_file():
        return None
    with open_image(path, str(path)) as image:
        if image.format != "TIFF" or orientation(image) != 1:
            return None
        matrix, scale, tie, directory = (_numbers(image, tag) for tag in (_MATRIX, _SCALE, _TIE, _KEYS))
    keys = {directory[i]: int(directory[i + 3]) for i in range(4, len(directory) - 3, 4) if directory[i + 1] == 0}
    half = 0.0 if keys.get(_RASTER_TYPE) == _POINT else 0.5  # coordinates of pixel centers, or of pixel corners
    if len(matrix) == 16:
        a, b, c, d, e, f = (matrix[i] for i in (0, 1, 3, 4, 5, 7))
        world = (a, d, b, e, c + half * (a + b), f + half * (d + e))
    elif len(scale) >= 2 and len(tie) == 6:
        across, down = scale[0], -scale[1]
        world = (across, 0.0, 0.0, down, tie[3] + (half - tie[0]) * across, tie[4] + (half - tie[1]) * down)
    else:
        return None
    if not all(map(math.isfinite, world)) or world[0] * world[3] == world[1] * world[2]:  # pixels without an area
        return None
    code = keys.get(_PROJECTED) or keys.get(_GEOGRAPHIC)
    return Place(world, code if code and code < _USER_DEFINED else None)


def _numbers(image: Image.Image, tag: int) -> tuple[float, ...]:
    """The numbers of a tag; none if it is absent, or of another type than numbers."""
    try:
        values = getattr(image, "tag_v2", {}).get(tag, ())
        numbers = tuple(map(float, values)) if isinstance(values, tuple) else ()
    except Exception:  # Pillow decodes a tag now, and raises almost anything
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


def files_beside(name: str, place: Place) -> dict[str, bytes]:
    """The files that georeference a PNG, name -> content: ``STEM.pgw``, and ``STEM.png.aux.xml`` if a code is known."""
    files = {name.removesuffix(".png") + ".pgw": "".join(f"{value!r}\n" for value in map(float, place.world)).encode()}
    if place.epsg is not None:
        files[f"{name}.aux.xml"] = f"<PAMDataset>\n  <SRS>EPSG:{place.epsg}</SRS>\n</PAMDataset>\n".encode()
    return files
