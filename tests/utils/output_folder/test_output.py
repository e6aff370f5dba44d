"""Manifests of output folders: names are kept, duplicates and other commands refused, outputs are never inputs."""

import json
import os
from pathlib import Path

import pytest

from clips4.errors import UserError
from clips4.utils.output_folder.manifest import (
    FOLDER,
    all_entries,
    entry_path,
    read_entry,
    without_outputs,
    write_entry,
)
from clips4.utils.output_folder.output import Item, Output, open_folder, plan


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(path.name))
    return paths


def output(out: Path, settings: str = "one", force: bool = False, command: str = "segment") -> Output:
    return Output(out, command, ["png"], settings, force)


def do(out: Output, *paths: Path, inputs: tuple[Path, ...] = (), videos: tuple[Path, ...] = ()) -> list[str]:
    """Plan, and write ``NAME.png`` of each image and ``NAME/0.png`` of each video; their names."""
    items = plan(out, paths, inputs or paths, videos)
    open_folder(out)
    for item in items:
        names = [f"{item.stem}/", f"{item.stem}/0.png"] if item.is_video else [f"{item.stem}.png"]
        entry = out.begin(item, out.kinds, names, {})
        touch(out.folder, names[-1])
        write_entry(out.folder, entry)
    return [item.stem for item in items]


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("s/a.jpg", "s/a.tif"), ("a.jpg", "a.JPG")])
def test_plan_two_images_of_one_name_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    paths = touch(tmp_path / "in", *names)
    with pytest.raises(UserError, match="would have the same outputs in"):
        do(output(tmp_path / "out"), *paths, inputs=(tmp_path / "in",))
    assert do(output(tmp_path / "out"), paths[0], inputs=(tmp_path / "in",)) == [names[0].rsplit(".")[0]]
    with pytest.raises(UserError, match="would have the same outputs in"):
        do(output(tmp_path / "out"), paths[1], inputs=(tmp_path / "in",))
    assert do(output(tmp_path / "other"), paths[1], inputs=(tmp_path / "in",)) == [names[1].rsplit(".")[0]]


def test_plan_names_that_differ_only_in_case_or_composition_are_two_on_most_file_systems(tmp_path: Path) -> None:
    paths = touch(tmp_path / "in", "a.jpg", "A.jpg", "caf\u00e9.jpg", "cafe\u0301.jpg")
    assert len(set(do(output(tmp_path / "out"), *paths))) == 4
    (tmp_path / "folds" / FOLDER.upper()).mkdir(parents=True)  # as a file system that ignores case shows it
    with pytest.raises(UserError, match="would have the same outputs in"):
        plan(output(tmp_path / "folds"), paths[:2], paths[:2])
    with pytest.raises(UserError, match="would have the same outputs in"):
        plan(output(tmp_path / "folds"), paths[2:], paths[2:])


def test_plan_video_and_image_of_one_name_have_their_own_files(tmp_path: Path) -> None:
    clip, image, other, frame = touch(tmp_path / "in", "clip.mp4", "clip.jpg", "clip.mov", "clip/0.jpg")
    assert do(output(tmp_path / "out"), image, videos=(clip,)) == ["clip", "clip"]
    for images, videos in (((), (clip, other)), ((frame,), (clip,))):
        with pytest.raises(UserError, match="would have the same outputs in"):
            do(output(tmp_path / "new"), *images, inputs=(tmp_path / "in",), videos=videos)
    with pytest.raises(UserError, match="would have the same outputs in"):
        do(output(tmp_path / "out"), frame, inputs=(tmp_path / "in",))


def test_plan_an_input_keeps_its_name(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "in", "a/1.jpg", "b/1.jpg")
    out = output(tmp_path / "out")
    assert do(out, a) == ["1"]
    assert do(out, a, b, inputs=(tmp_path / "in",)) == ["1", "b/1"]
    do(output(tmp_path / "out2"), a)
    with pytest.raises(UserError, match=rf"{b}: would have the same outputs in .* as {a}"):
        do(output(tmp_path / "out2"), b)
    a.unlink()
    assert do(output(tmp_path / "out2"), b) == ["1"], "the name of an input that is gone is free"


def test_plan_outputs_of_another_command_are_refused(tmp_path: Path) -> None:
    paths = touch(tmp_path / "in", "a.jpg")
    do(output(tmp_path / "out"), *paths)
    with pytest.raises(UserError, match=r"out: has the outputs of clips4 segment; give another folder"):
        do(output(tmp_path / "out", command="regions"), *paths)
    path = entry_path(tmp_path / "out", "a")
    values = json.loads(path.read_text())
    del values["command"]  # as earlier versions wrote it
    path.write_text(json.dumps(values))
    assert do(output(tmp_path / "out", command="cluster", settings="two"), *paths) == ["a"]


def test_open_folder_removes_other_settings_with_their_folders(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "in", "a/1.jpg", "b/1.jpg")
    first = output(tmp_path / "out")
    do(first, a, b, inputs=(tmp_path / "in",))
    first.record_own(["coco.json"])
    touch(tmp_path / "out", "coco.json", "notes.md")
    two = output(tmp_path / "out", "two")
    with pytest.raises(UserError, match="1 input that this command does not have, the first"):
        plan(two, [a], [tmp_path / "in"])
    assert (tmp_path / "out/a/1.png").is_file(), "nothing was removed"
    do(output(tmp_path / "out", "two", force=True), a, inputs=(tmp_path / "in",))
    assert sorted(p.name for p in (tmp_path / "out").glob("[!.]*")) == ["a", "notes.md"]
    assert [entry["settings_hash"] for entry in all_entries(tmp_path / "out")] == ["two"]


def test_open_folder_removes_what_killed_processes_left(tmp_path: Path) -> None:
    (path,) = touch(tmp_path / "in", "a.jpg")
    mine, gone = f".a.png.{os.getpid()}-0123abcd.part", ".a.png.4194399-0123abcd.part"
    touch(tmp_path / "out", mine, gone, "sub/.b.txt.4194399-00000000.part", ".keep.part")
    do(output(tmp_path / "out"), path)
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.part")) == [mine, ".keep.part"]


def test_begin_removes_files_that_are_not_written_again(tmp_path: Path) -> None:
    (path,) = touch(tmp_path / "in", "a.jpg")
    out = output(tmp_path / "out")
    do(out, path)
    out.begin(Item(path, "a", "a"), ["json"], ["a.json"], {})
    assert not (tmp_path / "out/a.png").exists()
    entry = read_entry(entry_path(tmp_path / "out", "a"))
    assert entry is not None
    assert entry["kinds"] == [], "unfinished"
    assert not out.is_done(Item(path, "a", "a"))


def test_without_outputs_leaves_out_what_any_manifest_above_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = touch(tmp_path / "in", "a.jpg", "b/2.jpg")
    clip = touch(tmp_path / "in", "clip.mp4")
    out = tmp_path / "in/b/out"
    do(output(out), *photos, inputs=(tmp_path / "in",), videos=tuple(clip))
    drawn, *own = touch(out, "drawn.png", "a.png", "b/2.png", "clip/0.png", "clip/7.png")
    assert without_outputs([*photos, drawn, *own]) == [*photos, drawn]
    monkeypatch.chdir(out)
    assert without_outputs([Path("a.png"), Path("clip/7.png"), Path("drawn.png")]) == [Path("drawn.png")]
    (tmp_path / "link").symlink_to(out)
    assert without_outputs([tmp_path / "link/a.png"]) == []


@pytest.mark.parametrize(
    "change",
    [
        {"files": ["../precious.txt"]},
        {"files": ["a/../../precious.txt"]},
        {"files": ["{out}/../precious.txt"]},
        {"files": ["a\0b"]},
        {"files": [""]},
        {"files": "ab"},
        {"files": [1]},
        {"stem": "../../precious"},
        {"kinds": None},
        {"facts": []},
        {"stamp": ["now"]},
        {"older": ["../precious.txt"]},
        {"older": 1},
    ],
)
def test_read_entry_of_a_hostile_manifest_counts_as_none_and_nothing_outside_is_removed(
    change: dict[str, object], tmp_path: Path
) -> None:
    (precious,) = touch(tmp_path, "precious.txt")
    (image,) = touch(tmp_path / "in", "a.jpg")
    out = tmp_path / "out"
    do(output(out), image)
    values = json.loads(entry_path(out, "a").read_text())
    text = json.dumps({**values, "settings_hash": "other", **change}).replace("{out}", str(out))
    entry_path(out, "a").write_text(text)
    assert read_entry(entry_path(out, "a")) is None
    (out / "a.png").unlink()  # else it is in the way: nobody says that clips4 wrote it
    do(output(out, "two", force=True), image)
    assert precious.exists()


def test_read_entry_keeps_names_that_are_no_text(tmp_path: Path) -> None:
    (image,) = touch(tmp_path / "in", os.fsdecode(b"a\xff.jpg"))
    do(output(tmp_path / "out"), image)
    assert [entry["source"] for entry in all_entries(tmp_path / "out")] == [str(image)]
