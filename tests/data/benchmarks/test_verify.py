"""clips4 doctor --data: copies that are whole, and copies that are not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from clips4.data.benchmarks.verify import check_set, checkable, describe_check
from clips4.errors import UserError
from tests.data.benchmarks import miniatures

MAKERS: dict[str, Callable[[Path], Path]] = {
    "voc20": miniatures.voc,
    "voc21": miniatures.voc,
    "context59": miniatures.context,
    "context60": miniatures.context_as_published,
    "pc459": miniatures.context_whole_as_published,
    "coco-stuff171": miniatures.coco_stuff,
    "coco-stuff27": miniatures.coco_stuff,
    "coco-object": miniatures.coco_stuff,
    "ade150": miniatures.ade,
    "ade847": miniatures.ade_full,
    "cityscapes19": miniatures.cityscapes,
    "cityscapes27": miniatures.cityscapes,
    "camvid11": miniatures.camvid,
    "davis16": miniatures.davis,
    "davis17": lambda root: miniatures.davis(root, 2017),
    "bsds500": miniatures.bsds,
}


@pytest.mark.parametrize("name", MAKERS)
def test_miniature_lacks_only_images(tmp_path: Path, name: str) -> None:
    check = check_set(name, MAKERS[name](tmp_path))
    assert len(check.problems) == 1
    assert f"{check.count} labeled, {check.expected} were published" in check.problems[0]


def test_every_set_can_be_checked() -> None:
    assert set(checkable()) == {*MAKERS, "coco128"}


@pytest.mark.parametrize(
    ("name", "make", "values", "message"),
    [
        ("voc21", miniatures.voc, [0, 21], r"21 \(in 2\)"),
        ("ade150", miniatures.ade, [0, 149, 255], r"255 \(in 1\); expected: 0 no class, 1-150"),
        ("coco-stuff171", miniatures.coco_stuff, [0, 11, 170], r"11 \(in 1\); expected: raw ids less one"),
        ("pc459", miniatures.context_of_odise, [0, 459], r"459 \(in 1\); expected: 16-bit TIFFs, 0-458"),
        ("ade847", miniatures.ade_full, [0, 2978], r"2978 \(in 1\); expected: 16-bit TIFFs, train ids 0-846"),
        ("cityscapes19", miniatures.cityscapes, [0, 40], r"40 \(in 2\); expected: labelIds"),
    ],
)
def test_wrong_label_convention_is_found(
    tmp_path: Path, name: str, make: Callable[[Path, list[int]], Path], values: list[int], message: str
) -> None:
    problems = check_set(name, make(tmp_path, values)).problems
    assert len(problems) == 2
    import re

    assert re.search(message, problems[0]), problems[0]


def test_sizes_broken_files_and_colors_are_found(tmp_path: Path) -> None:
    root = miniatures.voc(tmp_path)
    masks = root / "VOCdevkit/VOC2012/SegmentationClass"
    Image.new("RGB", (16, 12)).save(masks / "2007_000033.png")
    Image.new("L", (15, 12)).save(masks / "2007_000042.png")
    text = describe_check(check_set("voc21", root))
    assert "1 file cannot be read" in text
    assert "an RGB image" in text
    assert "1 label maps differ in size" in text
    (masks / "2007_000042.png").unlink()
    assert "1 files are missing" in describe_check(check_set("voc21", root))


def test_masks_of_the_wrong_year_are_found(tmp_path: Path) -> None:
    check = check_set("davis17", miniatures.davis(tmp_path))
    assert any("no object in the first frame" in problem for problem in check.problems)


def test_absent_classes_are_a_note(tmp_path: Path) -> None:
    check = check_set("camvid11", miniatures.camvid(tmp_path))
    assert check.notes == ["9 of 11 classes occur nowhere: building, pole, road, pavement, tree, sign, fence, car, ..."]
    check.problems.clear()
    assert "This copy is as published." in describe_check(check)


def test_check_set_wrong_names_raise(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give one of voc20"):
        check_set("imagenet", tmp_path)
    with pytest.raises(UserError, match="no split 'fold'"):
        check_set("voc21", tmp_path, "fold")
    assert "no such folder" in check_set("voc21", tmp_path / "no").problems[0]
