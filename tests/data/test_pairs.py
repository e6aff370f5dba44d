"""Files that belong together by name: subfolders, endings, duplicates, outputs of clips4."""

from pathlib import Path

import pytest

from clips4.data.pairs import by_name, files_in, label_maps_by_name, match, names_of
from clips4.errors import UserError
from clips4.utils.output_folder.manifest import write_entry
from clips4.utils.output_folder.output import Item, Output
from tests.helpers import touch


def matched(names: list[str], *files: str) -> list[str]:
    return [path.as_posix() for path in match(names, {name: Path(f"{name}.png") for name in files}, Path("pred"))]


def test_match_takes_the_same_path_before_the_same_last_part() -> None:
    assert matched(["a/1", "b/1"], "b/1", "a/1", "yolo/a/1") == ["a/1.png", "b/1.png"]
    assert matched(["1", "2"], "1", "panoptic/1", "2") == ["1.png", "2.png"]
    assert matched(["city/1", "town/2"], "1", "2") == ["1.png", "2.png"], "flat predictions of nested images"
    assert matched(["1", "town/2"], "val/1", "val/town/2") == ["val/1.png", "val/town/2.png"]
    assert matched(["coco", "a/x_overlay"], "coco_", "a/x_overlay_") == ["coco_.png", "a/x_overlay_.png"]


@pytest.mark.parametrize(
    ("names", "files", "message"),
    [
        (["a/1", "b/1"], ["1"], "no file is called a/1"),
        (["1"], ["a/1", "b/1"], "no file is called 1"),
        (["a/1", "b/1"], ["a/1"], "1 of 2 files are missing, the first b/1"),
        (["a/1"], ["b/1"], "1 of 1 files are missing, the first a/1"),
        (["1", "2"], ["1"], "1 of 2 files are missing, the first 2"),
    ],
)
def test_match_without_certainty_raises(names: list[str], files: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        matched(names, *files)


def test_by_name_cuts_endings_and_refuses_two_files_of_one_name(tmp_path: Path) -> None:
    city = "aachen/aachen_000000_000019_gtFine"
    files = touch(tmp_path, f"{city}_labelIds.png", f"{city}_color.png", f"{city}_labelTrainIds.png")
    assert by_name(files, tmp_path, "_labelTrainIds.png") == {city: files[2]}
    assert len(by_name(files, tmp_path)) == 3
    with pytest.raises(UserError, match=r"a\.tif: has the same name as .*a\.png"):
        by_name(touch(tmp_path, "a.png", "a.tif"), tmp_path)


def test_files_in_takes_suffixes_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.PNG", "c.jpg", ".d.png", "sub/e.png")
    assert [path.name for path in files_in(tmp_path, ".png")] == ["a.png", "b.PNG"]
    assert files_in(tmp_path / "none", ".png") == []


def test_names_of_start_at_the_common_folder(tmp_path: Path) -> None:
    assert names_of(touch(tmp_path, "val/a/1.jpg", "val/b/coco.jpg")) == ("a/1", "b/coco")
    assert names_of(touch(tmp_path, "val/a/1.jpg")) == ("1",)


def test_label_maps_by_name_of_an_output_folder_are_those_of_its_manifest(tmp_path: Path) -> None:
    image, video, half = touch(tmp_path / "in", "a/1.jpg", "clip.mp4", "2.jpg")
    out = Output(tmp_path / "out", "segment", ["png", "overlay"], "one")
    files = ["a/1.png", "a/1_overlay.png", "panoptic/a/1.png"]
    write_entry(out.folder, out.begin(Item(image, "a/1", "a/1"), out.kinds, files, {}))
    frames = ["clip/", "clip/00000.png", "clip.mp4"]
    write_entry(out.folder, out.begin(Item(video, "clip", "clip.mp4", True), out.kinds, frames, {}))
    out.begin(Item(half, "2", "2"), out.kinds, ["2.png"], {})
    touch(out.folder, *files, *frames[1:], "2.png", "note.png")
    assert list(label_maps_by_name(out.folder)) == ["a/1", "clip/00000"]
    assert list(label_maps_by_name(tmp_path / "out/a")) == ["1", "1_overlay"], "no manifest there"


def test_label_maps_by_name_follow_links_and_take_suffixes_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "gt/a.PNG", "data/b.png", "gt/notes.txt")
    (tmp_path / "gt/sub").symlink_to(tmp_path / "data")
    with pytest.warns(UserWarning, match="linked folders are searched, too"):
        assert list(label_maps_by_name(tmp_path / "gt")) == ["a", "sub/b"]
