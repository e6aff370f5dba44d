"""Names of outputs: by the place below the given folder, independent of other files, and never two alike."""

from pathlib import Path

import pytest

from clips4.utils.output_folder.names import output_names, safe_name
from tests.helpers import touch


def test_output_names_of_a_folder_are_paths_below_it(tmp_path: Path) -> None:
    paths = touch(tmp_path, "in/a.jpg", "in/b/a.JPG", "in/b/c/v1.0_d.png")
    assert output_names(paths, [tmp_path / "in"]) == ["a", "b/a", "b/c/v1.0_d"]
    for path, name in zip(paths, ["a", "b/a", "b/c/v1.0_d"], strict=True):
        assert output_names([path], [tmp_path / "in"]) == [name], "whatever else lies there"


def test_output_names_of_several_inputs_start_at_their_common_folder(tmp_path: Path) -> None:
    paths = touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/c/2.jpg")
    assert output_names(paths, [tmp_path / "a", tmp_path / "b"]) == ["a/1", "b/1", "b/c/2"]
    assert output_names(paths[1:], paths[1:]) == ["1", "c/2"]
    assert output_names(paths[:1], paths[:1]) == ["1"]
    assert output_names(paths[1:], [tmp_path / "b", tmp_path / "b/c"]) == ["1", "c/2"]


def test_output_names_of_relative_paths_equal_those_of_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = touch(tmp_path, "in/a/1.jpg")
    monkeypatch.chdir(tmp_path / "in")
    assert output_names([Path("../in/a/1.jpg")], [Path("../in")]) == output_names([path], [tmp_path / "in"]) == ["a/1"]


def test_safe_name_differs_for_every_name_and_from_other_outputs() -> None:
    names = [
        "coco",
        "coco_",
        "coco__",
        "Coco",
        "cat",
        "cat_overlay",
        "cat_overlay_",
        "cat_overlay_overlay",
        "gallery/1",
    ]
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    assert "coco" not in safe
    assert not [name for name in safe if name.endswith("_overlay")]
    assert safe_name("a/coco") == "a/coco", "the files of the whole folder are at its top"
