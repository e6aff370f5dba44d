"""Region maps of other programs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from clips4.config import RegionConfig
from clips4.errors import UserError
from clips4.outputs.rle import encode
from clips4.regions.cache import RegionCache
from clips4.regions.files.ready import read_region_map
from clips4.regions.job import region_settings
from tests.helpers import noise_image

LABELS = np.repeat(np.array([[7, 7, 300, 9]], np.uint16), 6, 0).repeat(2, 1)  # (6, 8), three regions
CONSECUTIVE = np.repeat(np.array([[0, 0, 2, 1]], np.int32), 6, 0).repeat(2, 1)


def masks(path: Path, *parts: np.ndarray, as_text: bool = True) -> Path:
    found = []
    for part in parts:
        rle: dict[str, Any] = dict(encode(part))
        if not as_text:
            columns = part.T.ravel()
            edges = np.flatnonzero(np.diff(np.r_[False, columns, not columns[-1]]))
            rle["counts"] = np.diff(np.r_[0, edges]).tolist()
        found.append({"segmentation": rle, "area": int(part.sum())})
    path.write_text(json.dumps({"annotations": found}))
    return path


def test_png_and_npz_of_any_labels_become_consecutive_ones(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", regions=LABELS, other=LABELS[:2])
    np.savez_compressed(tmp_path / "b.npz", LABELS.astype(np.int64))
    for name in ("a.png", "a.npz", "b.npz"):
        found = read_region_map(tmp_path / name, (6, 8))
        assert found.dtype == np.int32
        assert np.array_equal(found, CONSECUTIVE), name


def test_map_of_another_size_is_brought_to_the_images_by_nearest_neighbor(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "a.png")
    larger = read_region_map(tmp_path / "a.png", (12, 16))
    assert np.array_equal(larger, CONSECUTIVE.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(read_region_map(tmp_path / "a.png", (3, 4)), CONSECUTIVE[::2, ::2])
    with pytest.raises(UserError, match=r"\(6, 8\) has another aspect than its image \(40, 40\)"):
        read_region_map(tmp_path / "a.png", (40, 40))


@pytest.mark.parametrize("as_text", [True, False])
def test_smaller_masks_lie_on_top_and_the_rest_is_a_region(tmp_path: Path, as_text: bool) -> None:
    large, small = np.zeros((6, 8), bool), np.zeros((6, 8), bool)
    large[:, :5], small[1:3, 3:7] = True, True
    for order in ((large, small), (small, large)):
        found = read_region_map(masks(tmp_path / "a.json", *order, as_text=as_text), (6, 8))
        assert len(np.unique(found)) == 3
        assert len(set(found[small].tolist())) == 1
        assert len(set(found[large & ~small].tolist())) == 1
        assert len(set(found[~large & ~small].tolist())) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"[1]", "no JSON object|not an object|object"),
        ("a.json", b'{"annotations": []}', "no masks"),
        ("a.json", b'{"annotations": [{"segmentation": [[0, 0, 1, 1]]}]}', "no run-length encoding"),
        ("a.json", b'{"annotations": [{"segmentation": {"size": [6, 8], "counts": [1]}}]}', "no run-length encoding"),
        ("a.json", b'{"annotations": [{"segmentation": {"size": [6, 8], "counts": "z~"}}]}', "no run-length encoding"),
        (
            "a.json",
            b'{"annotations": [{"segmentation": {"size": [-6, -8], "counts": [48]}}]}',
            "no run-length encoding",
        ),
        ("a.json", b'{"annotations": [{"segmentation": {"size": [9e9, 8], "counts": [1]}}]}', "no run-length encoding"),
        ("a.npz", b"no archive", "not a readable NPZ"),
        ("a.png", b"no image", "region map"),
    ],
)
def test_damaged_maps_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_region_map(tmp_path / name, (6, 8))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_what_is_no_label_map_is_refused(tmp_path: Path) -> None:
    Image.fromarray(noise_image(6, 8)).save(tmp_path / "color.png")
    np.savez(tmp_path / "floats.npz", regions=LABELS / 2)
    np.savez(tmp_path / "two.npz", a=LABELS, b=LABELS)
    np.savez(tmp_path / "objects.npz", regions=np.array([[{}]], object), allow_pickle=True)
    for name, message in (
        ("color.png", "mode RGB"),
        ("floats.npz", "float64; a region map has integers"),
        ("two.npz", "save one array, or name it regions"),
        ("objects.npz", "not a readable NPZ|save one array"),
    ):
        with pytest.raises(UserError, match=message):
            read_region_map(tmp_path / name, (6, 8))
    several = masks(tmp_path / "several.json", np.ones((6, 8), bool), np.ones((3, 4), bool))
    with pytest.raises(UserError, match="masks of several sizes"):
        read_region_map(several, (6, 8))


def test_cache_finds_maps_by_the_images_name_and_follows_their_content(tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    Image.fromarray(LABELS).save(folder / "photo.png")
    cache = RegionCache(RegionConfig(method="ready", edges=str(folder)), tmp_path / "cache")
    image, source = noise_image(6, 8), tmp_path / "photo.jpg"
    assert np.array_equal(cache(image, source), CONSECUTIVE)
    assert np.array_equal(cache(image, source), CONSECUTIVE), "from the cache"
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 1
    Image.fromarray(np.zeros_like(LABELS)).save(folder / "photo.png")
    assert cache(image, source).max() == 0, "an edited map is read again"
    with pytest.raises(UserError, match=r"no region map .*other\.png, \.npz or \.json"):
        cache(image, tmp_path / "other.jpg")
    with pytest.raises(UserError, match="ready finds the region map by the image's file name"):
        cache(image)
    with pytest.raises(UserError, match="no such folder of region maps"):
        RegionCache(RegionConfig(method="ready", edges=str(tmp_path / "none")))


def test_settings_of_ready_maps_need_their_folder() -> None:
    assert region_settings("ready", 48, None, Path("maps"), []).edges == "maps"
    with pytest.raises(UserError, match="give their folder with --maps DIR"):
        region_settings("ready", 48, None, None, [])
    with pytest.raises(ValidationError, match="edges-ucm or ready"):
        RegionConfig(method="ready")
