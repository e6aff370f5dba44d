"""Class vectors of a protocol: text and prototypes, found at test time as in training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import Config, load_config, with_overrides
from clips4.data.class_names import load_classes
from clips4.evaluation.protocols import Protocol
from clips4.evaluation.queries import find_prototypes, prototype_query, text_query
from clips4.inference.refine.background import BackgroundRule
from clips4.inference.segmenter import Segmenter
from clips4.method.prototype_search import teacher_segments
from clips4.method.prototypes import exclusive_prototypes, known_prototypes
from clips4.models.calibrated_teacher import calibrated
from clips4.models.checkpoint import load_checkpoint
from clips4.models.teachers.base import load_teacher
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.regions.cache import RegionCache
from clips4.utils.images import load_rgb
from tests.helpers import FakeTeacher, unit, write_images


def protocol(**changes: Any) -> Protocol:
    base = Protocol("test", None, None, None, "", "simple", "mean", None)
    return replace(base, **changes)


def test_vector_per_class_or_per_name() -> None:
    teacher, classes = FakeTeacher(), load_classes(["background: sky, wall", "cat", "dog: dog, puppy"])
    rule = BackgroundRule(probability=0.1, scale=40)
    per_word = text_query(teacher, classes, protocol(aliases="max", background=rule))
    assert per_word.owner.tolist() == [0, 0, 1, 2, 2]
    per_class = text_query(teacher, classes, protocol(background=replace(rule, queried=False)))
    assert per_class.owner.tolist() == [1, 2]
    assert per_class.vectors.shape == (2, 4)


def all_segments(paths: list[Path], config: Config) -> Tensor:
    regions, maps = RegionCache(config.regions), TeacherMaps(FakeTeacher(), "cpu")
    images = [load_rgb(path) for path in paths]
    return torch.cat([teacher_segments(maps(i), torch.from_numpy(regions(i)), config.segments)[0] for i in images])


def test_prototypes_found_at_test_time_are_those_of_training(tmp_path: Path) -> None:
    """The running best m of each class are the best m of all segments."""
    paths, text = write_images(tmp_path, 4), unit(5, 4, dtype=torch.float32)
    config = load_config("cpu", ["prototypes.m=3", "regions.count=6", "segments.clusters=4"])
    found = find_prototypes(FakeTeacher(), text, paths, config, torch.device("cpu"))
    everything = all_segments(paths, config)
    torch.testing.assert_close(found, known_prototypes(text, everything, 3))

    exclusive = with_overrides(config, ["extensions.exclusive_prototypes=true"])
    found = find_prototypes(FakeTeacher(), text, paths, exclusive, torch.device("cpu"))
    torch.testing.assert_close(found, exclusive_prototypes(text, everything, 3, everything))
    assert not torch.allclose(found, known_prototypes(text, everything, 3))


def test_segments_found_at_test_time_are_those_of_training(tmp_path: Path) -> None:
    config = load_config(
        "cpu", ["prototypes.m=3", "prototypes.per_class=nearest", "regions.count=6", "segments.clusters=4"]
    )
    mean = with_overrides(config, ["prototypes.per_class=mean"])
    paths, text = write_images(tmp_path, 2), unit(5, 4, dtype=torch.float32)
    found, expected = (
        find_prototypes(FakeTeacher(), text, paths, each, torch.device("cpu")) for each in (config, mean)
    )
    assert found.shape == (15, 4)
    torch.testing.assert_close(F.normalize(found.unflatten(0, (5, 3)).sum(1), dim=1), expected)


def test_prototype_query_has_all_prototypes_of_a_class(nearest_run: Path, tmp_path: Path) -> None:
    run, classes = Segmenter.load(nearest_run), load_classes("grass, cat")
    config = load_checkpoint(nearest_run).config
    query = prototype_query(run, FakeTeacher(), classes, [], protocol(), config, torch.device("cpu"))
    assert run.prototypes is not None
    assert query.owner.tolist() == [0, 0, 0, 1, 1, 1]
    assert query.grouped
    assert torch.equal(query.vectors, run.prototypes.known[[6, 7, 8, 0, 1, 2]])


@pytest.mark.parametrize("exclusive", [False, True])
def test_new_names_compete_with_those_of_the_run_for_segments(
    exclusive: bool, nearest_run: Path, tmp_path: Path
) -> None:
    run, paths, classes = Segmenter.load(nearest_run), write_images(tmp_path, 12), load_classes("lamp, grass")
    trained = load_checkpoint(nearest_run).config
    config = with_overrides(trained, [f"extensions.exclusive_prototypes={str(exclusive).lower()}"])
    assert run.prototypes is not None
    teacher, device = calibrated(load_teacher(trained.teacher), run.prototypes.space), torch.device("cpu")
    query = prototype_query(run, teacher, classes, paths, protocol(), config, device)
    text = torch.cat([run.prototypes.text, text_query(teacher, load_classes("lamp"), protocol()).vectors])
    m = config.prototypes.m
    assert torch.equal(query.vectors[:m], find_prototypes(teacher, text, paths, config, device)[-m:])
    assert query.owner.tolist() == [0] * m + [1] * run.prototypes.rows_per_class
    alone = find_prototypes(teacher, text[-1:], paths, config, device)
    assert torch.equal(query.vectors[:m], alone) is not exclusive
