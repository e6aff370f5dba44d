"""Which of the two predicts: the student of a run, or its teacher."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from clips4.cli.app import app
from clips4.errors import UserError
from clips4.inference.jobs.load import TeacherOptions, load_segmenter
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import CARD, load_checkpoint
from tests.helpers import conse, photograph


@pytest.fixture(autouse=True)
def one_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher is loaded once for all tests."""
    monkeypatch.setattr("clips4.inference.opening.load_teacher", lambda settings: conse())


@pytest.fixture
def spoiled(copied_run: Path) -> Path:
    """A run whose quality report advises its teacher."""
    path = load_checkpoint(copied_run).path / CARD
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"use": "teacher"}))
    return copied_run


def test_load_of_a_spoiled_run_predicts_with_the_teacher_and_its_prototypes(spoiled: Path) -> None:
    with pytest.warns(UserWarning, match=r"no better than its teacher, which predicts; use student to override this"):
        found = Segmenter.load(spoiled, "cpu")
    image = photograph()
    config = load_checkpoint(spoiled).config
    alone = Segmenter.from_teacher("conse", config, "cpu")
    assert torch.equal(found.embed(image), alone.embed(image))
    assert torch.equal(found.class_vectors()[1], load_checkpoint(spoiled).prototypes.known)


@pytest.mark.parametrize("use", ["student", "teacher"])
def test_load_with_use_given_overrides_the_report_without_a_warning(spoiled: Path, tiny_run: Path, use: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_spoiled, of_sound = (Segmenter.load(run, "cpu", use=use) for run in (spoiled, tiny_run))  # type: ignore[arg-type]
    assert torch.equal(of_spoiled.embed(photograph()), of_sound.embed(photograph()))
    assert torch.equal(of_spoiled.class_vectors()[1], of_sound.class_vectors()[1])


def test_load_where_the_teacher_is_missing_warns_and_keeps_the_student(
    spoiled: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(settings: object) -> None:
        raise UserError("teacher x: not there")

    monkeypatch.setattr("clips4.inference.opening.load_teacher", missing)
    with pytest.warns(UserWarning, match="cannot be loaded: teacher x: not there"):
        found = Segmenter.load(spoiled, "cpu")
    assert torch.equal(found.embed(photograph()), Segmenter.load(tiny_run, "cpu").embed(photograph()))
    with pytest.raises(UserError, match="not there"):
        Segmenter.load(spoiled, "cpu", use="teacher")


def test_load_with_an_unknown_use_lists_the_choices(tiny_run: Path) -> None:
    with pytest.raises(UserError, match="auto, student, teacher"):
        Segmenter.load(tiny_run, "cpu", use="both")  # type: ignore[arg-type]


def test_load_segmenter_keeps_outputs_of_another_use_apart(tiny_run: Path, images: Path) -> None:
    loaded = [
        load_segmenter([tiny_run, images], None, "cpu", TeacherOptions(), use=use).identity
        for use in ("auto", "student", "teacher")
    ]
    assert len({json.dumps(each) for each in loaded}) == 3
    with pytest.raises(UserError, match="--use"):
        load_segmenter([images], "conse", "cpu", TeacherOptions(), use="student")


def test_settings_of_a_teacher_alone_keep_outputs_apart_and_those_without_keep_their_hash() -> None:
    old = {"reading": None, "templates": None, "key_smoothing": False, "prompt_denoising": False}
    assert TeacherOptions().identity() == old
    others = [TeacherOptions(affinity=True), TeacherOptions(overrides=("teacher.hypernyms=0.25",))]
    assert len({json.dumps(each.identity()) for each in [TeacherOptions(), *others]}) == 3
    assert others[0].settings()[1].affinity
    assert others[1].settings()[0].teacher.hypernyms == 0.25


@pytest.mark.parametrize(
    "command", [("cluster", "--k", "2"), ("unknown", "--names", "1"), ("evaluate", "labels", "--labels", "none")]
)
def test_commands_pass_use_on(command: tuple[str, ...], tiny_run: Path, images: Path, tmp_path: Path) -> None:
    """Each refuses a choice that ``Segmenter.load`` does not know, with its list of choices."""
    name = command[:1] if command[0] != "evaluate" else command[:2]
    where = () if command[0] == "evaluate" else (images, "--out", tmp_path / "out")
    arguments = [*name, tiny_run, *where, *command[len(name) :], "--use", "both", "--device", "cpu"]
    with pytest.raises(UserError, match="auto, student, teacher"):
        app([str(each) for each in arguments], standalone_mode=False)
