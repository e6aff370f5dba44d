import tarfile
from pathlib import Path

import numpy as np
import pytest

from clips4.data.image_source import ImageFiles, ImageShards, find_training_images, open_source
from clips4.errors import UserError
from tests.helpers import write_images


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Two shards of three pictures, one of them broken."""
    images = write_images(tmp_path / "pictures", 6)
    images[4].write_bytes(b"no picture")
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for path in images[3 * number : 3 * number + 3]:
                tar.add(path, path.name)
    return sorted(tmp_path.glob("*.tar"))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_image_is_seen_once_over_the_ranks(shards: list[Path], tmp_path: Path, world: int) -> None:
    files = sorted((tmp_path / "pictures").iterdir())
    for source in (ImageFiles(files), ImageShards(list(map(str, shards)))):
        seen = [each for rank in range(world) for each in source.iterate(64, rank, world)]
        assert sorted(each.path.name for each in seen) == sorted(path.name for path in files)
        assert len({each.number for each in seen}) == 6
        (broken,) = [each for each in seen if isinstance(each.image, str)]
        assert broken.path.name == files[4].name
        assert files[4].name in str(broken.image)
        # numbers do not depend on who reads
        assert {e.path.name: e.number for e in seen} == {e.path.name: e.number for e in source.iterate(64, 0, 1)}


def test_files_come_in_the_order_given_reduced_and_each_unusable_one_with_its_reason(tmp_path: Path) -> None:
    good = write_images(tmp_path, 3)
    broken, astray = tmp_path / "broken.jpg", tmp_path / "astray.png"
    broken.write_text("no picture")
    astray.symlink_to("nowhere.png")
    seen = list(ImageFiles([good[2], broken, good[0], astray, good[1]]).iterate(50, 0, 1))
    assert [each.path for each in seen] == [good[2], broken, good[0], astray, good[1]]
    assert [each.number for each in seen] == [0, 1, 2, 3, 4]
    assert all(not isinstance(seen[n].image, str) and max(np.shape(seen[n].image)) == 50 for n in (0, 2, 4))
    for n in (1, 3):
        assert seen[n].path.name in str(seen[n].image)
        assert "\n" not in str(seen[n].image)


def test_what_is_found_and_opened(shards: list[Path], tmp_path: Path) -> None:
    assert find_training_images([tmp_path / "{0..1}.tar"]) == shards
    assert isinstance(open_source(shards), ImageShards)
    images = find_training_images([tmp_path / "pictures"])
    assert len(images) == 6
    assert isinstance(open_source(images), ImageFiles)
    with pytest.raises(UserError, match="either tar shards or images"):
        find_training_images([*shards, tmp_path / "pictures"])
    with pytest.raises(UserError, match="no images to train on"):
        open_source([])


def test_digest_differs_between_sets_but_not_where_they_lie(shards: list[Path], tmp_path: Path) -> None:
    files = sorted((tmp_path / "pictures").iterdir())
    digest = ImageFiles(files).digest
    moved = tmp_path / "moved"
    (tmp_path / "pictures").rename(moved)
    assert ImageFiles(sorted(moved.iterdir())).digest == digest
    assert ImageFiles(sorted(moved.iterdir())[:5]).digest != digest
    (moved / files[0].name).write_bytes(b"another")
    assert ImageFiles(sorted(moved.iterdir())).digest != digest
