"""Class vectors of a teacher alone, retrieved from unlabeled images."""

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clips4.cli.app import main
from clips4.config import Config, TeacherConfig, load_config
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.inference.retrieval import retrieved_vectors, with_background
from clips4.inference.segmenter import Segmenter
from clips4.method.prototype_search import teacher_segments
from clips4.regions.cache import RegionCache
from clips4.utils.images import load_rgb
from tests.helpers import FakeTeacher

NAMES = load_classes("cat,cup,grass")
SETTINGS = ["prototypes.m=3", "regions.count=6", "segments.clusters=4"]


def segmenter() -> Segmenter:
    teacher = FakeTeacher()
    return Segmenter(teacher.encode_pixels, TeacherConfig(), 96, torch.device("cpu"), teacher=teacher)


def all_segments(images: Path, config: Config) -> torch.Tensor:
    alone, regions = segmenter(), RegionCache(config.regions)
    rows = []
    for path in sorted(images.iterdir()):
        image = load_rgb(path)
        rows.append(teacher_segments(alone.embed(image), torch.from_numpy(regions(image, path)), config.segments)[0])
    return torch.cat(rows)


def test_retrieved_vectors_are_means_of_the_nearest_segments(images: Path) -> None:
    config, alone = load_config("cpu", SETTINGS), segmenter()
    found = retrieved_vectors(alone, NAMES, sorted(images.iterdir()), config)
    every, text = all_segments(images, config), alone.classifier.text(NAMES)
    assert list(found) == ["cat", "cup", "grass"]
    for name, vector in zip(NAMES.names, text, strict=True):
        nearest = sorted(range(len(every)), key=lambda row: -float(every[row] @ vector))[:3]
        torch.testing.assert_close(found[name], F.normalize(every[nearest].sum(0), dim=0)[None])


def test_retrieved_vectors_of_nearest_are_the_segments_themselves(images: Path) -> None:
    config = load_config("cpu", [*SETTINGS, "prototypes.per_class=nearest"])
    found = retrieved_vectors(segmenter(), NAMES, sorted(images.iterdir()), config)
    every = all_segments(images, config)
    for rows in found.values():
        assert rows.shape == (3, 4)
        assert (rows @ every.T).amax(1).min() > 1 - 1e-5


def test_query_takes_retrieved_vectors_in_place_of_text(images: Path) -> None:
    alone = segmenter()
    alone.classifier.retrieved = retrieved_vectors(
        alone, load_classes("cat,CUP"), sorted(images.iterdir()), load_config("cpu", SETTINGS)
    )
    query = alone.query(NAMES)
    assert query.sources == ("bank", "bank", "text")
    torch.testing.assert_close(query.vectors[1:2], alone.classifier.retrieved["CUP"])
    assert alone.query(NAMES, vectors="text").sources == ("text", "text", "text")


def test_retrieved_vectors_images_that_cannot_be_read_are_skipped(images: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths, config = [tmp_path / "broken.png", *sorted(images.iterdir())], load_config("cpu", SETTINGS)
    found = retrieved_vectors(segmenter(), NAMES, paths, config)
    expected = retrieved_vectors(segmenter(), NAMES, paths[1:], config)
    for name, rows in expected.items():
        torch.testing.assert_close(found[name], rows)
    with pytest.raises(UserError, match="none of 1 images to retrieve from could be read"):
        retrieved_vectors(segmenter(), NAMES, paths[:1], config)


def test_with_background_adds_its_names_alone() -> None:
    assert with_background(NAMES, "wall, sky").names == ("cat", "cup", "grass", "wall", "sky")
    assert with_background(NAMES, "0.4") is with_background(NAMES, None) is NAMES


def test_segment_command_with_retrieve_names_the_source_of_each_vector(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = ["segment", "--teacher-only", "conse", str(images), "--out", str(out), "--device", "cpu", "--save", "json"]
    given += ["--classes", "cat,cup", "--background", "grass", "--retrieve", str(images), "--set", "prototypes.m=4"]
    monkeypatch.setattr(sys, "argv", ["clips4", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err
    assert json.loads((out / "photo0.json").read_text())["sources"] == {
        "cat": "bank",
        "cup": "bank",
        "background": "bank",
    }


@pytest.mark.parametrize("more", [["--vectors", "text"], []])
def test_segment_command_retrieve_without_a_teacher_alone_is_refused(
    images: Path, tiny_run: Path, more: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["--teacher-only", "conse"] if more else [str(tiny_run)]
    given = ["segment", *start, str(images), "--out", "out", "--classes", "cat", "--retrieve", str(images), *more]
    monkeypatch.setattr(sys, "argv", ["clips4", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--retrieve: goes with --teacher-only and --classes" in capsys.readouterr().err
