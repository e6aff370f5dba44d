"""The pass before training: groups of one size, and batches and workers that change nothing."""

from pathlib import Path

import numpy as np
import torch

from clips4.config import Config, with_overrides
from clips4.data.class_names import load_classes
from clips4.data.image_source import open_source
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.regions.cache import RegionCache
from clips4.regions.workers import ImageWithRegions
from clips4.training.precompute import Prepared, by_size, prepare
from clips4.utils.progress import NoProgress
from tests.helpers import FakeTeacher, unit, write_images


def image(number: int, height: int) -> ImageWithRegions:
    return ImageWithRegions(
        number, Path(str(number)), np.zeros((height, 4, 3), np.uint8), np.zeros((height, 4), np.int32)
    )


def test_by_size_groups_images_of_one_size_and_loses_none() -> None:
    given = [image(number, 1 + number % 3) for number in range(20)]
    given.insert(5, ImageWithRegions(99, Path("99"), "broken", None))
    groups = list(by_size(given, 4))
    assert sorted(each.number for group in groups for each in group) == [*range(20), 99]
    for group in groups:
        assert len({np.shape(each.image) for each in group}) == 1
        assert len(group) <= 4
    assert [len(group) for group in groups].count(4) == 3, "of 7, 7 and 6 images"
    assert [each.number for group in by_size(given, 1) for each in group] == [each.number for each in given]


def test_by_size_holds_no_more_than_some_batches() -> None:
    taken = 0

    def many() -> "object":
        nonlocal taken
        for number in range(100):
            taken += 1
            yield image(number, 1 + number)

    groups = by_size(many(), 2)  # type: ignore[arg-type]
    next(groups)
    assert taken <= 8


def prepared(tmp_path: Path, config: Config, *settings: str) -> tuple[Prepared, int]:
    own = with_overrides(config, settings)
    paths = write_images(tmp_path / "images", 3) + write_images(tmp_path / "tall", 3, 64, 48)
    paths[1].write_bytes(b"no image")
    place, teacher = tmp_path / "-".join(("out", *settings)).replace("=", ""), FakeTeacher()
    found = prepare(
        open_source(paths),
        load_classes("cat,cup,grass"),
        own,
        unit(3, 4, dtype=torch.float32),
        RegionCache(own.regions, place),
        TeacherMaps(teacher, root=place),
        place / "run",
        NoProgress(),
    )
    return found, teacher.calls


def test_batches_and_workers_give_the_same_prototypes(tmp_path: Path, tiny_config: Config) -> None:
    plain, calls = prepared(tmp_path, tiny_config)
    assert calls == plain.images == 5
    assert list(plain.skipped) == [1]
    for settings, expected in ((["teacher.batch=3"], 2), (["teacher.batch=2", "data.workers=2"], 3)):
        other, calls = prepared(tmp_path, tiny_config, *settings)
        assert calls == expected, "images of one size in one call"
        assert (other.images, other.skipped) == (plain.images, plain.skipped)
        for part in ("known", "unknown", "bank"):
            assert torch.equal(getattr(other.prototypes, part), getattr(plain.prototypes, part))
