from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clips4.data.class_names import (
    UNKNOWN,
    ClassList,
    builtin_class_files,
    class_vectors,
    imagenet_classes,
    load_classes,
    load_templates,
    parse_classes,
)
from clips4.errors import UserError
from tests.helpers import generator

# --------------------------------------------------------------------------------------------------------- parsing


def test_names_aliases_comments_and_blank_lines() -> None:
    classes = parse_classes(["# heading", "cat", "", "  dining table  # of wood", "person: person, man , woman"])
    assert classes.names == ("cat", "dining table", "person")
    assert classes.words == (("cat",), ("dining table",), ("person", "man", "woman"))
    assert len(classes) == 3


def test_aliases_replace_the_name_in_prompts() -> None:
    assert parse_classes(["tv: television, screen"]).words == (("television", "screen"),)


@pytest.mark.parametrize("line", [": alias", "name:", "name: a,,b", "name: a,", "name: ,a"])
def test_empty_names_are_refused_with_their_line(line: str) -> None:
    with pytest.raises(UserError, match=r"file\.txt, line 3: empty name"):
        parse_classes(["ok", "", line], "file.txt")


@pytest.mark.parametrize("lines", [["cat", "dog", "cat"], ["Cat", "cAT"], ["cat", "cat: kitty"], ["Straße", "STRASSE"]])
def test_a_name_given_twice_is_refused_in_any_case(lines: list[str]) -> None:
    with pytest.raises(UserError, match="is there twice"):
        parse_classes(lines)


def test_classes_may_share_an_alias() -> None:
    assert len(parse_classes(["mouse: mouse", "rodent: mouse"])) == 2


@pytest.mark.parametrize("name", [UNKNOWN, "Unknown", "UNKNOWN: thing"])
def test_unknown_is_kept_for_unknown(name: str) -> None:
    with pytest.raises(UserError, match="kept for what none of the classes fits"):
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


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
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
def test_a_missing_file_is_not_taken_for_a_class(path: str) -> None:
    with pytest.raises(UserError, match=f"{path}: no such class file"):
        load_classes(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(b"caf\xe9\n\xff\xfe")
    with pytest.raises(UserError, match="not a text file in UTF-8"):
        load_classes(path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "twice.txt"
    path.write_text("a\na\n")
    with pytest.raises(UserError, match=r"twice\.txt: 'a' is there twice"):
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


def test_the_thousand_classes_of_imagenet() -> None:
    names = imagenet_classes()
    assert len(names) == 1000
    assert all(name == name.strip() and name for name in names)
    assert (names[0], names[281], names[967], names[999]) == ("tench", "tabby cat", "espresso", "toilet paper")


def test_the_eighty_templates_have_one_place_each() -> None:
    templates = load_templates("imagenet-80")
    assert len(templates) == len(set(templates)) == 80
    for template in templates:
        assert template.count("{}") == 1
        assert template.count("{") == template.count("}") == 1
        assert "cat" in template.format("cat")


def test_maskclips_templates_are_the_eighty_and_five_of_scenes() -> None:
    templates = load_templates("maskclip-85")
    assert len(templates) == len(set(templates)) == 85
    assert templates[:80] == load_templates("imagenet-80")
    assert all(template.count("{}") == 1 and template.endswith(" {} in the scene.") for template in templates[80:])


def test_the_simple_template() -> None:
    assert load_templates("simple") == ["a photo of a {}."]


def test_unknown_templates_list_those_there_are() -> None:
    with pytest.raises(UserError, match="unknown prompt templates 'best'; there is imagenet-80, maskclip-85, simple"):
        load_templates("best")


# ------------------------------------------------------------------------------------------------------ ensembling


class FakeEncoder:
    """A vector per prompt, not of unit length, the same whenever it is asked."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def vector(self, prompt: str) -> Tensor:
        seed = int.from_bytes(prompt.encode()[:7], "big") + len(prompt) * 1009 + sum(prompt.encode())
        return torch.randn(6, generator=generator(seed), dtype=torch.float64) * (1 + len(prompt))

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        self.prompts += prompts
        return torch.stack([self.vector(prompt) for prompt in prompts])


TEMPLATES = ["a {}.", "the {} in the picture", "{}"]


def test_class_vectors_equal_the_ensemble_by_loops() -> None:
    encoder, rows = FakeEncoder(), []
    for words in THREE.words:
        total, prompts = torch.zeros(6, dtype=torch.float64), 0
        for word in words:
            for template in TEMPLATES:
                vector = encoder.vector(template.replace("{}", word))
                total += vector / vector.norm()
                prompts += 1
        mean = total / prompts
        rows.append(mean / mean.norm())
    torch.testing.assert_close(class_vectors(encoder, THREE, TEMPLATES), torch.stack(rows), rtol=0, atol=1e-10)


def test_every_word_is_asked_in_every_template_once() -> None:
    encoder = FakeEncoder()
    class_vectors(encoder, THREE, TEMPLATES)
    words = [word for group in THREE.words for word in group]
    assert sorted(encoder.prompts) == sorted(t.replace("{}", word) for word in words for t in TEMPLATES)


@pytest.mark.parametrize("limit", [1, 5, 6, 7, 100])
def test_a_long_list_is_encoded_some_at_a_time_and_the_same(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    whole = class_vectors(FakeEncoder(), THREE, TEMPLATES)
    monkeypatch.setattr("clips4.data.class_names._PROMPTS_AT_ONCE", limit)
    batches: list[int] = []

    class Counting(FakeEncoder):
        def encode_text(self, prompts: Sequence[str]) -> Tensor:
            batches.append(len(prompts))
            return super().encode_text(prompts)

    torch.testing.assert_close(class_vectors(Counting(), THREE, TEMPLATES), whole, rtol=0, atol=0)
    assert sum(batches) == 12
    assert max(batches) <= max(limit, 6), "a class of two words in three templates stays together"


def test_class_vectors_are_unit_rows_in_the_order_of_the_classes() -> None:
    vectors = class_vectors(FakeEncoder(), THREE, TEMPLATES)
    assert vectors.shape == (3, 6)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3, dtype=torch.float64))
    backwards = ClassList(THREE.names[::-1], THREE.words[::-1])
    torch.testing.assert_close(class_vectors(FakeEncoder(), backwards, TEMPLATES), vectors.flip(0))


def test_one_word_in_one_template_is_its_own_vector() -> None:
    encoder = FakeEncoder()
    vector = encoder.vector("a photo of a cat.")
    classes = ClassList(("cat",), (("cat",),))
    torch.testing.assert_close(class_vectors(encoder, classes, ["a photo of a {}."]), (vector / vector.norm())[None])


def test_a_name_with_braces_is_a_name() -> None:
    encoder = FakeEncoder()
    class_vectors(encoder, ClassList(("a {b}",), (("a {b}",),)), ["the {}."])
    assert encoder.prompts == ["the a {b}."]
