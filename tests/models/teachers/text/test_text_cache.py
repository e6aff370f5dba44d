import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clips4.data.class_names import ClassList, load_classes
from clips4.models.teachers.text.prompts import class_vectors
from clips4.models.teachers.text.text_cache import cached_class_vectors, warn_of_unknown_terms
from tests.helpers import FakeTeacher, unit

CLASSES = load_classes(["cat", "person: man, woman"])
TEMPLATES = ["a photo of a {}.", "the {}"]


class Speaker(FakeTeacher):
    """Counts the prompts it is asked, and says something of its own for each."""

    def __init__(self, name: str = "speaker", settings: dict[str, object] | None = None):
        super().__init__(name, settings)
        self.asked: list[str] = []

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        self.asked += prompts
        return torch.cat([unit(1, 4, seed=sum(prompt.encode()), dtype=torch.float32) for prompt in prompts])


def test_list_is_encoded_once(tmp_path: Path) -> None:
    first = Speaker()
    vectors = cached_class_vectors(first, CLASSES, TEMPLATES, tmp_path)
    assert len(first.asked) == 6
    assert torch.equal(vectors, class_vectors(Speaker(), CLASSES, TEMPLATES))
    second = Speaker()
    assert torch.equal(cached_class_vectors(second, CLASSES, TEMPLATES, tmp_path), vectors)
    assert not second.asked


def test_other_names_templates_or_teachers_are_encoded_again(tmp_path: Path) -> None:
    cached_class_vectors(Speaker(), CLASSES, TEMPLATES, tmp_path)
    backwards = ClassList(CLASSES.names[::-1], CLASSES.aliases[::-1])
    for teacher, classes, templates in (
        (Speaker(), load_classes(["cat", "person: woman"]), TEMPLATES),
        (Speaker(), backwards, TEMPLATES),
        (Speaker(), CLASSES, TEMPLATES[::-1]),
        (Speaker("other"), CLASSES, TEMPLATES),
        (Speaker(settings={"model": 1}), CLASSES, TEMPLATES),
    ):
        cached_class_vectors(teacher, classes, templates, tmp_path)
        assert teacher.asked


def test_names_and_attentions_play_no_part(tmp_path: Path) -> None:
    class Clip(Speaker):
        text_settings: dict[str, object]

    teachers = [Clip(settings={"model": 1, "reading": reading}) for reading in ("maskclip", "sclip")]
    for teacher in teachers:
        teacher.text_settings = {"model": 1}
    cached_class_vectors(teachers[0], CLASSES, TEMPLATES, tmp_path)
    renamed = ClassList(("Katze", "Mensch"), CLASSES.aliases)
    cached_class_vectors(teachers[1], renamed, TEMPLATES, tmp_path)
    assert not teachers[1].asked


@pytest.mark.parametrize("damage", [b"", b"not tensors", None])
def test_damaged_file_is_recomputed(tmp_path: Path, damage: bytes | None) -> None:
    vectors = cached_class_vectors(Speaker(), CLASSES, TEMPLATES, tmp_path)
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-7] if damage is None else damage)
    teacher = Speaker()
    assert torch.equal(cached_class_vectors(teacher, CLASSES, TEMPLATES, tmp_path), vectors)
    assert teacher.asked


def test_warn_of_unknown_terms_lists_those_of_all_aliases() -> None:
    class Forgetful(Speaker):
        def unknown_terms(self, texts: Sequence[str]) -> list[str]:
            return [text for text in texts if text in ("man", "cat")]

    with pytest.warns(UserWarning, match="text model of speaker does not know: 'cat', 'man'; check the spelling"):
        warn_of_unknown_terms(Forgetful(), CLASSES)
    with warnings.catch_warnings(action="error"):
        warn_of_unknown_terms(Speaker(), CLASSES)
