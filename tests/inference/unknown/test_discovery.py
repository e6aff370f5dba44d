"""The discovered unknown classes: shares, examples, what is written of them, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from clips4.cli.app import main
from clips4.config import TeacherConfig
from clips4.data.class_names import load_classes
from clips4.data.image_folder import SkippedImage
from clips4.errors import UserError
from clips4.inference.jobs.discover import describe, page, unknown_files
from clips4.inference.segmenter import Segmenter
from clips4.inference.unknown.discovery import discover
from clips4.models.checkpoint import Prototypes
from clips4.utils.images import load_rgb
from clips4.utils.progress import NoProgress
from tests.cli.test_app import Fails, fails  # noqa: F401  # the fixture
from tests.helpers import unit, write_broken_images
from tests.inference.test_classifier import NamesTeacher

RED, GREEN, BLUE, GREY = (250, 10, 10), (10, 250, 10), (10, 10, 250), (128, 128, 128)


def color(images: torch.Tensor) -> torch.Tensor:
    """Six dimensions: how far each color is above and below the middle."""
    means = F.avg_pool2d(images, 8) - 0.5
    return F.normalize(torch.cat([means.clamp(min=0), (-means).clamp(min=0)], 1) + 1e-3, dim=1)


def vector_of(value: tuple[int, int, int]) -> torch.Tensor:
    return color(torch.tensor(value).view(1, 3, 1, 1).expand(1, 3, 8, 8) / 255)[0, :, 0, 0]


@pytest.fixture
def segmenter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    """Knows green; has discovered blue (0), something that is nowhere (1), and red (2)."""
    monkeypatch.setenv("CLIPS4_CACHE", str(tmp_path / "cache"))
    unknown = torch.stack([vector_of(BLUE), vector_of((250, 250, 250)), vector_of(RED)])
    known = vector_of(GREEN)[None]
    prototypes = Prototypes(
        load_classes("green"), known, known, unknown, unit(9, 6, seed=4, dtype=torch.float32).half()
    )
    encoder = color
    return Segmenter(encoder, TeacherConfig(), 256, torch.device("cpu"), prototypes, NamesTeacher(), stride=8)


def image(boxes: dict[tuple[int, int, int, int], tuple[int, int, int]]) -> np.ndarray:
    image = np.full((96, 128, 3), GREEN, np.uint8)
    for (left, top, width, height), value in boxes.items():
        image[top : top + height, left : left + width] = value
    return image


def test_discover_reports_shares_places_and_order(segmenter: Segmenter) -> None:
    first = image({(0, 0, 64, 48): RED, (96, 64, 16, 16): RED})
    second = image({(64, 32, 32, 32): RED, (0, 64, 32, 32): BLUE})
    found = segmenter.discover([first, second])
    assert [each.number for each in found] == [2, 0, 1]
    red, blue, nowhere = found
    assert red.share == pytest.approx((64 * 48 + 16 * 16 + 32 * 32) / (2 * 96 * 128), rel=0.1)
    assert (red.images, blue.images, nowhere.images) == (2, 1, 0)
    assert nowhere.share == 0
    assert nowhere.examples == ()
    assert [example.source for example in red.examples] == ["image 1", "image 2"]
    left, top, width, height = red.examples[0].box
    assert (left, top) == (0, 0)
    assert (width, height) == pytest.approx((64, 48), abs=4)
    assert red.examples[0].similarity > 0.9


def test_discover_example_is_cropped_and_pale_outside(segmenter: Segmenter) -> None:
    shown = segmenter.discover(image({(32, 32, 32, 32): BLUE}))[0].examples[0]
    _, _, width, height = shown.box
    assert shown.crop.shape[0] > height
    assert shown.crop.shape[1] > width
    middle, corner = shown.crop[shown.crop.shape[0] // 2, shown.crop.shape[1] // 2], shown.crop[0, 0]
    assert tuple(middle) == BLUE
    assert tuple(corner) == pytest.approx(tuple(0.4 * value + 0.6 * 255 for value in GREEN), abs=1)


def test_discover_keeps_the_best_examples(segmenter: Segmenter) -> None:
    sizes = [16, 48, 32, 64, 24]
    images = [image({(0, 0, size, size): BLUE}) for size in sizes]
    found = segmenter.discover(images, examples=3)[0]
    assert [example.source for example in found.examples] == ["image 4", "image 2", "image 3"]
    assert segmenter.discover(images, examples=0)[0].examples == ()


def test_discover_suggests_no_known_name(segmenter: Segmenter) -> None:
    found = segmenter.discover(image({(32, 32, 32, 32): BLUE}), names=7)
    assert all(len(each.names) == 7 for each in found)
    assert all(name != "green" for each in found for name, _ in each.names)


def test_discover_broken_image_is_skipped_or_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    broken = write_broken_images(tmp_path / "broken")["cut.jpg"]
    good = image({(0, 0, 32, 32): BLUE})
    with pytest.raises(UserError, match=r"cut\.jpg"):
        discover(segmenter, [good, broken])
    skipped: list[SkippedImage] = []
    found = discover(segmenter, [broken, good], skipped=skipped)
    assert [each.path for each in skipped] == [broken]
    assert found[0].share == pytest.approx(32 * 32 / (96 * 128), rel=0.3), "of the images that were read"


def test_discover_without_unknown_prototypes_is_refused(segmenter: Segmenter) -> None:
    without = Segmenter(color, TeacherConfig(), 64, torch.device("cpu"))
    with pytest.raises(UserError, match="no unknown prototypes"):
        without.discover(image({}))
    with pytest.raises(UserError, match="empty list"):
        segmenter.discover([])


# ------------------------------------------------------------------------------------------------------------ files


def test_unknown_files_agree_with_each_other(segmenter: Segmenter, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a <b>.png", "c.png")]
    Image.fromarray(image({(0, 0, 64, 48): RED})).save(paths[0])
    Image.fromarray(image({(0, 0, 48, 48): RED, (64, 0, 32, 32): BLUE})).save(paths[1])
    found, skipped = unknown_files(segmenter, paths, tmp_path / "out", 3, 2, None, NoProgress())
    assert not skipped
    document = json.loads((tmp_path / "out/unknown.json").read_text("utf-8"))
    assert document["images"] == 2
    assert [each["unknown"] for each in document["classes"]] == [2, 0, 1]
    red = document["classes"][0]
    assert red["examples"][0]["file"] == str(paths[0])
    for shown, example in zip(red["examples"], found[0].examples, strict=True):
        np.testing.assert_array_equal(load_rgb(tmp_path / "out" / shown["crop"]), example.crop)
    html = (tmp_path / "out/index.html").read_text("utf-8")
    assert "a &lt;b&gt;.png" in html
    assert html.count("<section>") == 2
    assert "1 more unknown class occurs in none" in html
    assert page(found, 2) == html
    assert describe(found[0]) == red


def test_unknown_command_prints_the_outcome(
    tiny_run: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "clips4.inference.unknown.name_suggestion.nouns", lambda: ["cat", "disc", "ground", "ball"]
    )  # the whole takes a while
    arguments = ["clips4", "unknown", tiny_run, images, "--out", tmp_path / "out", "--json", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", list(map(str, arguments)))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == 3
    assert {each["name"] for each in document["classes"][0]["names"]} == {"disc", "ground", "ball"}
    assert (tmp_path / "out/index.html").is_file()


def test_unknown_command_invalid_input_fails_in_one_line(tiny_run: Path, tmp_path: Path, fails: Fails) -> None:  # noqa: F811
    broken = write_broken_images(tmp_path / "broken")
    out = ("--out", tmp_path / "out", "--device", "cpu")
    assert "no such file or folder" in fails("unknown", tiny_run, tmp_path / "nowhere", *out)
    assert "no checkpoint" in fails("unknown", tmp_path, broken["cut.jpg"], *out)
    assert "none of 1 image could be read" in fails("unknown", tiny_run, broken["cut.jpg"], *out)
    assert not (tmp_path / "out").exists()
