from collections.abc import Sequence
from pathlib import Path

import pytest

from clips4.data.class_names import (
    UNKNOWN,
    ClassList,
    builtin_class_files,
    folded,
    imagenet_classes,
    load_classes,
    named_classes,
    parse_classes,
)
from clips4.errors import UserError

# --------------------------------------------------------------------------------------------------------- parsing


def test_names_aliases_comments_and_blank_lines() -> None:
    classes = parse_classes(["# heading", "cat", "", "  dining table  # of wood", "person: person, man , woman"])
    assert classes.names == ("cat", "dining table", "person")
    assert classes.aliases == (("cat",), ("dining table",), ("person", "man", "woman"))
    assert len(classes) == 3


def test_named_classes_takes_names_as_they_are() -> None:
    names = ["light: red", "a, b", "4 wheeler", "[old] <x>", "# 3", '"quoted" #2: b', "tv;\ttable|x"]
    assert named_classes(names).names == tuple(" ".join(name.split()) for name in names)
    assert named_classes(names).aliases == tuple((" ".join(name.split()),) for name in names)
    for bad, problem in ((["cat", " "], "name 2: empty name"), (["cat", "CAT"], "twice"), (["Unknown"], "reserved")):
        with pytest.raises(UserError, match=problem):
            named_classes(bad)


def test_folded_names_are_equal_in_any_case_and_form() -> None:
    assert folded(" CAFE\N{COMBINING ACUTE ACCENT}  Table ") == folded("café table")
    assert folded("cafe") != folded("café")


def test_aliases_replace_the_name_in_prompts() -> None:
    assert parse_classes(["tv: television, screen"]).aliases == (("television", "screen"),)


@pytest.mark.parametrize("line", [": alias", "name:", "name: a,,b", "name: a,", "name: ,a"])
def test_empty_names_are_refused_with_their_line(line: str) -> None:
    with pytest.raises(UserError, match=r"file\.txt, line 3: empty name"):
        parse_classes(["ok", "", line], "file.txt")


@pytest.mark.parametrize("lines", [["cat", "dog", "cat"], ["Cat", "cAT"], ["cat", "cat: kitty"], ["Straße", "STRASSE"]])
def test_name_given_twice_is_refused_in_any_case(lines: list[str]) -> None:
    with pytest.raises(UserError, match="is listed twice"):
        parse_classes(lines)


def test_classes_may_share_an_alias() -> None:
    assert len(parse_classes(["mouse: mouse", "rodent: mouse"])) == 2


@pytest.mark.parametrize("name", [UNKNOWN, "Unknown", "UNKNOWN: thing"])
def test_parse_classes_name_unknown_raises(name: str) -> None:
    with pytest.raises(UserError, match="reserved for pixels of no class"):
        parse_classes(["cat", name])


def test_unknown_may_be_part_of_a_name_or_an_alias() -> None:
    assert parse_classes(["unknown soldier", "thing: unknown"]).names == ("unknown soldier", "thing")


@pytest.mark.parametrize("lines", [[], ["", "  "], ["# only a comment"]])
def test_no_class_is_refused(lines: list[str]) -> None:
    with pytest.raises(UserError, match="no class names"):
        parse_classes(lines)


# --------------------------------------------------------------------------------------------------------- loading

THREE = ClassList(("cat", "dining table", "person"), (("cat",), ("dining table",), ("man", "woman")))


@pytest.mark.parametrize("form", [THREE, ["cat", "dining table", "person: man, woman"]])
def test_lists_are_taken_as_they_are(form: Sequence[str] | ClassList) -> None:
    assert load_classes(form) == THREE


def test_files_by_path_or_text(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("cat\r\ndining table\nperson: man, woman\n", encoding="utf-8")
    assert load_classes(path) == load_classes(str(path)) == THREE


def test_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("cat\ndog\n", encoding="utf-8-sig")
    assert load_classes(path).names == ("cat", "dog")


def test_names_parted_by_commas() -> None:
    assert load_classes("cat, dining table ,dog").names == ("cat", "dining table", "dog")
    assert load_classes("cat").names == ("cat",)
    assert load_classes("sea/lake, road").names == ("sea/lake", "road")


def test_many_names_parted_by_commas() -> None:
    """Longer than the file system lets a file's name be."""
    names = tuple(f"class number {index}" for index in range(300))
    assert load_classes(",".join(names)).names == names


@pytest.mark.parametrize("path", ["gone.txt", "folder/gone", "gone.csv", "gone.yaml"])
def test_missing_file_is_not_taken_for_a_class(path: str) -> None:
    with pytest.raises(UserError, match=f"{path}: no such class file"):
        load_classes(path)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(b"caf\xe9\n\xff\xfe")
    with pytest.raises(UserError, match="not a text file in UTF-8"):
        load_classes(path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "twice.txt"
    path.write_text("a\na\n")
    with pytest.raises(UserError, match=r"twice\.txt: 'a' is listed twice"):
        load_classes(path)


# ------------------------------------------------------------------------------------------------- what is shipped


def test_every_shipped_class_file_loads() -> None:
    assert "coco128" in builtin_class_files()
    for name in builtin_class_files():
        assert len(load_classes(name)) > 1


def test_coco128_begins_with_the_things_of_coco() -> None:
    names = load_classes("coco128").names
    assert names[:3] == ("person", "bicycle", "car")
    assert "toothbrush" in names[:80]
    assert len(names) == 92


def test_thousand_classes_of_imagenet() -> None:
    names = imagenet_classes()
    assert len(names) == 1000
    assert all(name == name.strip() and name for name in names)
    assert (names[0], names[281], names[967], names[999]) == ("tench", "tabby cat", "espresso", "toilet paper")
