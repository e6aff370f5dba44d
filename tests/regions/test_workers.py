"""Images with their regions, in one process and in several."""

from pathlib import Path

import numpy as np

from clips4.config import RegionConfig
from clips4.regions.cache import RegionCache
from clips4.regions.workers import images_with_regions
from tests.helpers import write_images


def test_workers_give_the_same_images_regions_and_reasons_as_one_process(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", 4)
    paths[2].write_bytes(b"no image")
    settings = RegionConfig(count=6)
    one, two = (
        list(images_with_regions(enumerate(paths), RegionCache(settings, tmp_path / str(workers)), 48, workers))
        for workers in (0, 2)
    )
    assert [each.number for each in one] == [each.number for each in two] == [0, 1, 2, 3]
    for ours, theirs in zip(one, two, strict=True):
        assert ours.path == theirs.path
        if ours.regions is None:
            assert "no image" in str(ours.image) or "not an image" in str(ours.image)
            assert (theirs.image, theirs.regions) == (ours.image, None)
            continue
        assert isinstance(ours.image, np.ndarray)
        assert isinstance(theirs.image, np.ndarray)
        assert theirs.regions is not None
        assert max(ours.image.shape) == 48
        assert np.array_equal(ours.image, theirs.image)
        assert np.array_equal(ours.regions, theirs.regions)
    assert [each.number for each in one if each.regions is None] == [2]
    files = [sorted(path.read_bytes() for path in (tmp_path / name).rglob("*.png")) for name in ("0", "2")]
    assert files[0] == files[1]
    assert len(files[0]) == 3
