"""Class files as people have them: the names that are meant, or a reason."""

import json
from pathlib import Path

import pytest

from clips4.data.class_names import ClassList, describe_classes, load_classes
from clips4.errors import UserError

THREE = ("cat", "dog", "grass")


def read(folder: Path, name: str, text: str | bytes) -> ClassList:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_classes(path)


@pytest.mark.parametrize(
    "text",
    [
        "cat\r\ndog\r\ngrass\r\n",
        "cat, dog, grass\n",
        "cat,\ndog,\ngrass,\n",
        "- cat\n- dog\n- grass\n",
        '"cat"\n\'dog\'\n"grass"',
        "0 cat\n1 dog\n2 grass",
        "0: cat\n1: dog\n2: grass",
        "0,cat\n1,dog\n2,grass",
        "0\tcat\n1\tdog\n2\tgrass",
        "0) cat\n1) dog\n2) grass",
        "2: grass\n0: cat\n1: dog",
        "cat 0\ndog 1\ngrass 2",
        "cat: 0\ndog: 1\ngrass: 2",
        "['cat', 'dog', 'grass']",
        '{"0": "cat", "1": "dog", "2": "grass"}',
    ],
)
def test_load_classes_text_forms_of_three_names(tmp_path: Path, text: str) -> None:
    classes = read(tmp_path, "classes.txt", text)
    assert classes.names == THREE
    assert classes.ids == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "cat,dog,grass\n"),
        ("a.csv", "cat\ndog\ngrass\n"),
        ("a.csv", "name\ncat\ndog\ngrass\n"),
        ("a.csv", "Name;Id\ncat;0\ndog;1\ngrass;2\n"),
        ("a.csv", "cat,0,128,0\ndog,9,9,9\ngrass,1,1,1\n"),
        ("a.csv", "id,name,color\n1,dog,red\n0,cat,blue\n2,grass,green\n"),
        ("a.tsv", "0\tcat\n1\tdog\n2\tgrass\n"),
        ("a.yaml", "- cat\n- dog\n- grass\n"),
        ("a.yml", "0: cat\n1: dog\n2: grass\n"),
        ("a.yaml", "cat: 0\ndog: 1\ngrass: 2\n"),
        ("a.yaml", "path: x\ntrain: images\nnc: 3\nnames: [cat, dog, grass]\n"),
        ("a.yaml", "names:\n  0: cat\n  1: dog\n  2: grass\n"),
        ("a.yaml", "cat\ndog\ngrass\n".replace("\n", ", ").rstrip(", ")),
        ("a.json", json.dumps(THREE)),
        ("a.json", json.dumps({"id2label": {"0": "cat", "1": "dog", "2": "grass"}, "label2id": {}})),
        ("a.json", json.dumps([{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 2, "name": "grass"}])),
    ],
)
def test_load_classes_tables_and_documents_of_three_names(tmp_path: Path, name: str, text: str) -> None:
    classes = read(tmp_path, name, text)
    assert classes.names == THREE
    assert classes.ids == ()


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        (
            "coco.json",
            json.dumps({"images": [], "categories": [{"id": n, "name": c} for n, c in ((5, "dog"), (2, "cat"))]}),
            (2, 5),
        ),
        ("data.yaml", "names: {1: cat, 7: dog}", (1, 7)),
        ("a.txt", "1 cat\n2 dog", (1, 2)),
        ("a.csv", "id,name\n11,cat\n12,dog\n", (11, 12)),
    ],
)
def test_load_classes_ids_with_gaps_are_kept_and_described(
    tmp_path: Path, name: str, text: str, ids: tuple[int, ...]
) -> None:  # fmt: skip
    classes = read(tmp_path, name, text)
    assert (classes.names, classes.ids) == (("cat", "dog"), ids)
    shown = f"2 classes: {ids[0]} cat; {ids[1]} dog. These ids are not label values, which count from 0 in this order"
    assert describe_classes(classes) == shown


@pytest.mark.parametrize("text", ["", "  ", "."])
def test_load_classes_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no class names; give names parted by commas"):
        load_classes(text)


def test_load_classes_folder_is_refused_and_its_name_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sky").mkdir()
    monkeypatch.chdir(tmp_path)
    for text in ("sky", "sky/", str(tmp_path / "sky")):
        with pytest.raises(UserError, match="a folder, not a class file; for a class of that name give 'sky: sky'"):
            load_classes(text)
    assert load_classes("sky: sky").names == ("sky",)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("C#\nF# code\ncat  # a pet\n# heading", ("C#", "F# code", "cat")),
        ('"room #3"\ncat', ("room #3", "cat")),
        ('"table, dining"\ncat', ("table, dining", "cat")),
        ("4 wheeler", ("4 wheeler",)),
        ("2 wheeler\n4 wheeler", ("2 wheeler", "4 wheeler")),
        ("boeing 747\nairbus 380", ("boeing 747", "airbus 380")),
        ("3d printer\ncat", ("3d printer", "cat")),
        ("no\non\n1.0\nnull", ("no", "on", "1.0", "null")),
        ("men's shoe\ncat", ("men's shoe", "cat")),
        ("cafe\u0301\ntraffic  light", ("caf\u00e9", "traffic light")),
    ],
)
def test_load_classes_names_are_kept(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    assert read(tmp_path, "a.txt", text).names == names


def test_load_classes_yaml_scalars_are_names(tmp_path: Path) -> None:
    assert read(tmp_path, "a.yaml", "- no\n- on\n- 1.0\n- null\n").names == ("no", "on", "1.0", "null")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "person: [man, woman]\ncat:\n"),
        ("a.yaml", "- person: man, woman\n- cat\n"),
        ("a.json", '{"person": ["man", "woman"], "cat": "cat"}'),
        ("a.csv", 'name,aliases\nperson,"man, woman"\ncat,\n'),
        ("a.txt", 'person: "man", woman\ncat'),
    ],
)
def test_load_classes_aliases_in_any_form(tmp_path: Path, name: str, text: str) -> None:
    classes = read(tmp_path, name, text)
    assert (classes.names, classes.aliases) == (("person", "cat"), (("man", "woman"), ("cat",)))
    assert describe_classes(classes) == "2 classes: person (man, woman); cat"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_load_classes_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    mark = "" if encoding in ("utf-8-sig", "utf-16", "utf-32") else "\ufeff"
    assert read(tmp_path, "a.txt", (mark + "chat\r\nœuf").encode(encoding)).names == ("chat", "œuf")
    assert read(tmp_path, "a.csv", (mark + "id,name\r\n0,chat").encode(encoding)).names == ("chat",)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.txt", "cat, dog\ngrass, road", "one name, or several"),
        ("a.txt", "wall\nbuilding;edifice", "one name, or several"),
        ("a.txt", "cat #pet\ndog", "part of the name"),
        ("a.txt", '"cat\ndog', "open quote"),
        ("a.txt", "item {\n  name: 'cat'\n}", "brackets"),
        ("a.txt", "background:0,0,0::\ncat:128,0,0::", "a color"),
        ("a.txt", "0 cat\n1 dog\ngrass", "before 2 of 3 names"),
        ("a.txt", "0: cat\n0: dog", "the id 0 is given twice"),
        ("a.txt", "cat,, dog", "empty name"),
        ("a.txt", "a\x1b[31mb", "brackets|no name"),
        ("a.txt", "x" * 300, "too long"),
        ("a.txt", "cat\0dog", "not a text file in UTF-8"),
        ("a.csv", "cat,kitty\ndog,puppy\n", "several columns"),
        ("a.csv", "id,name\n0,cat\nx,dog\n", "the id 'x' is no whole number"),
        ("a.csv", "name\ncat\ncat\n", "'cat' is listed twice"),
        ("a.yaml", "path: x\nnc: 80\n", "has no names"),
        ("a.yaml", "nc: 4\nnames: [cat, dog]\n", "nc is 4, but there are 2"),
        ("a.yaml", "names: coco.names\n", "has no names"),
        ("a.yaml", "0: cat\n0: dog\n", "'0' is given twice"),
        ("a.yaml", "a: [", "not readable as YAML"),
        ("a.yaml", "[" * 3000, "not readable as YAML"),
        ("a.json", '{"a": "b", "a": "c"}', "'a' is given twice"),
        ("a.json", "[[1, 2]]", "not understood"),
        ("a.json", '{"categories": [{"id": 1, "name": 5}]}', "is no text"),
        ("a.json", "{", "not readable as JSON"),
        ("a.json", "3", "no list of names"),
    ],
)
def test_load_classes_other_forms_are_refused_with_the_reason(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as raised:
        read(tmp_path, name, text)
    assert str(raised.value).startswith(str(tmp_path / name))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat,dog,", ("cat", "dog")),
        ('"a, b",c', ("a, b", "c")),
        ("cat\ndog", ("cat", "dog")),
        ("[cat, dog]", ("cat", "dog")),
    ],
)
def test_load_classes_command_line_forms(text: str, names: tuple[str, ...]) -> None:
    assert load_classes(text).names == names


def test_load_classes_empty_name_is_refused() -> None:
    with pytest.raises(UserError, match="empty name"):
        load_classes("cat,,dog")


def test_describe_classes_long_lists_are_cut() -> None:
    text = describe_classes(load_classes([f"thing {letter}{n}" for letter in "abcd" for n in range(50)]))
    assert text.startswith("200 classes: thing a0; ")
    assert "... 140 more ..." in text
    assert text.endswith("thing d49")


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.yaml"])
def test_class_file_of_many_megabytes_raises_before_it_is_parsed(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{name}: larger than 8 MiB, no list of class names"):
        read(tmp_path, name, "- cat\n" * 2**21)
