"""Label maps that lie where their images lie on the ground, so that a GIS overlays both.

A PNG cannot hold a georeference: six numbers go to a world file (``.pgw``), the coordinate system to ``.png.aux.xml``.
GDAL, and so QGIS and rasterio, read both beside a PNG. This needs no package, and knows systems with an EPSG code in
GeoTIFFs. ``label_geotiff`` writes a GeoTIFF by rasterio (the extra ``geo``), with any coordinate system and ground
control points.
"""

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clips4.errors import UserError
from clips4.utils.extras import install_command
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


_DRIVERS = {"TIFF": "GTiff", "PNG": "PNG", "JPEG": "JPEG", "JPEG2000": "JP2OpenJPEG"}  # Pillow's formats -> GDAL's


def require_rasterio() -> None:
    """Check that the extra ``geo`` is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import rasterio  # noqa: F401
    except ImportError:
        raise UserError(f"geotiff needs the package rasterio; {install_command('rasterio')}, or save png")


def label_geotiff(
    values: NDArray[np.integer], colors: NDArray[np.uint8] | None, names: Sequence[str], source: Path
) -> bytes:
    """A label map as a GeoTIFF with the coordinate system and transform, or ground control points, of its image.

    Args:
        values: (H, W) uint8 or uint16; the largest value of the type is unknown, and "nodata" in the file.
        colors: (256, 3) palette of uint8 values.
        names: (K,) of the values 0..K-1, kept as the tags ``class_0``, ... of the band.
        source: the image. One without a georeference, or that EXIF turns, gives a TIFF without one.

    Raises:
        UserError: rasterio is missing, or GDAL cannot read the image.
    """
    require_rasterio()
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    height, width = values.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": values.dtype.name}
    profile |= {"nodata": np.iinfo(values.dtype).max, "compress": "deflate"}
    with warnings.catch_warnings(), rasterio.MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        place = _georeference(source, values.shape)
        with memory.open(**profile, **place) as file:
            file.write(values, 1)
            if colors is not None:
                file.write_colormap(1, dict(enumerate(map(tuple, colors.tolist()))))
            file.update_tags(1, **{f"class_{value}": name for value, name in enumerate(names)})
        return bytes(memory.read())


def _georeference(source: Path, size: tuple[int, ...]) -> dict[str, Any]:
    """What rasterio is to write; nothing for an image without a place, or of another size as displayed."""
    import rasterio

    if not source.is_file():
        return {}
    with open_image(source, str(source)) as image:
        driver = _DRIVERS.get(image.format or "")
        if driver is None or orientation(image) != 1:
            return {}
    try:
        str(source).encode()
        place: Any = source.absolute()
    except UnicodeEncodeError:  # GDAL takes names that are text; of others the file alone, without a world file
        place = io.BytesIO(source.read_bytes())
    try:
        with rasterio.open(place, driver=driver) as given:
            points, points_crs = given.gcps
            if given.shape != size:
                return {}
            if points:
                return {"gcps": points, "crs": points_crs}
            known = given.crs is not None or not given.transform.is_identity
            return {"crs": given.crs, "transform": given.transform} if known else {}
    except rasterio.errors.RasterioIOError as error:
        raise UserError(f"{source}: its georeference is not readable ({str(error).splitlines()[0][:80]}); save png")
