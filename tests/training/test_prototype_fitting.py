from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import clips4.training.prototype_fitting
from clips4.config import load_config
from clips4.data.class_names import ClassList
from clips4.data.image_source import ImageFiles
from clips4.inference.segmenter import Segmenter
from clips4.method.prototypes import known_prototypes, mixture_prototypes
from clips4.models.checkpoint import Prototypes, load_checkpoint
from clips4.models.teachers.base import load_teacher
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.regions.cache import RegionCache
from clips4.training.prototype_fitting import fit_to_student
from clips4.utils.progress import NoProgress
from tests.helpers import unit

PRIOR = "extensions.text_prior=2"


class SeesTheSame(torch.nn.Module):
    """A student that sees what the teacher does, turned by a rotation."""

    def __init__(self, teacher: torch.nn.Module, turn: Tensor):
        super().__init__()
        self.teacher, self.turn = teacher, turn

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("de,behw->bdhw", self.turn, self.teacher.encode_pixels(images))  # type: ignore[operator]


@pytest.fixture(scope="module")
def teacher() -> torch.nn.Module:
    found = load_teacher("conse")
    assert isinstance(found, torch.nn.Module)
    return found


def fit(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes, turn: Tensor, rounds: int = 3, *more: str
) -> Prototypes:
    config = load_config(
        "cpu", ["data.inference_side=512", f"extensions.em_iterations={rounds}", "prototypes.m=2", *more]
    )
    return fit_to_student(
        prototypes,
        SeesTheSame(teacher, turn),  # type: ignore[arg-type]
        ImageFiles(sorted(images.iterdir())[:3]),
        config,
        RegionCache(config.regions),
        TeacherMaps(teacher),  # type: ignore[arg-type]
        torch.device("cpu"),
        NoProgress(),
    )


@pytest.fixture(scope="module")
def prototypes(teacher: torch.nn.Module) -> Prototypes:
    text = teacher.encode_text(["cat", "sky"])  # type: ignore[operator]
    return Prototypes(ClassList(("cat", "sky"), (("cat",), ("sky",))), text, text, unit(2, 384).float())


def test_student_that_sees_otherwise_is_queried_otherwise(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes
) -> None:
    same, turn = torch.eye(384), torch.linalg.qr(unit(384, 384).float())[0]
    straight, turned = (
        fit(teacher, images, replace(prototypes, known=prototypes.known @ each.T), each) for each in (same, turn)
    )
    assert straight.fitted is not None
    assert turned.fitted is not None
    assert straight.fitted.shape == (4, 384)
    # the known turn with the student and with the prior: nothing else of the teacher's space is left in them
    torch.testing.assert_close(turned.query_known, straight.query_known @ turn.T, rtol=0, atol=0.02)
    assert turned.bank is not None
    assert turned.student_bank is not None
    torch.testing.assert_close(turned.student_bank.float(), turned.bank.float() @ turn.T, rtol=0, atol=0.02)


def test_teachers_prototypes_hold_the_fitted_back(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes
) -> None:
    elsewhere = F.normalize(torch.ones(2, 384), dim=1)
    here, there = (
        fit(teacher, images, replace(prototypes, known=known), torch.eye(384)).query_known @ elsewhere[0]
        for known in (prototypes.known, elsewhere)
    )
    assert (there > here + 0.3).all()


def test_prototypes_of_names_stay_where_names_are(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes
) -> None:
    """A dimension that no name has is 0 in every fitted known prototype, however much of it pixels have."""
    off = torch.ones(384)
    off[:100] = 0
    text, known = F.normalize(prototypes.text * off, dim=1), F.normalize(prototypes.known * off, dim=1)
    found = fit(teacher, images, replace(prototypes, text=text, known=known), torch.eye(384))
    assert not found.query_known[:, :100].any()
    assert found.query_unknown[:, :100].any()


def test_unknown_prototypes_in_the_fit_take_pixels_from_the_known_and_are_held_back_like_them(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes
) -> None:
    # the unknown are drawn from where the known classes have their pixels
    first = fit(teacher, images, prototypes, torch.eye(384), 1)
    assert first.bank is not None
    theirs = (first.bank.float() @ first.query_known.T).argmax(0)
    beside = replace(prototypes, unknown=F.normalize(first.bank[theirs].float(), dim=1))
    alone, together = (
        fit(teacher, images, beside, torch.eye(384), 1, f"extensions.unknown_in_fit={choice}")
        for choice in ("false", "true")
    )
    assert ((alone.query_known * together.query_known).sum(1) < 0.999).any()
    torch.testing.assert_close(together.query_unknown.norm(dim=1), torch.ones(2))
    # a prior counts as much as all pixels: no unknown prototype is further than 45 degrees from where it was drawn
    kept = (together.query_unknown * beside.unknown).sum(1)
    assert (kept > 0.7).all()
    assert ((alone.query_unknown * beside.unknown).sum(1) < kept).all()


@pytest.mark.parametrize("unknown", ["false", "true"])
def test_prior_is_how_much_the_teacher_counts(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes, unknown: str
) -> None:
    near = []
    for prior in (0, 0.5, 1, 1e6):
        settings = f"extensions.prior_weight={prior}", f"extensions.unknown_in_fit={unknown}"
        found = fit(teacher, images, prototypes, torch.eye(384), 1, *settings)
        near.append((found.query_known * prototypes.known).sum(1))
    assert (near[0] <= near[1]).all()
    assert (near[1] <= near[2]).all()
    assert (near[0] < near[2]).any()
    torch.testing.assert_close(near[3], torch.ones(len(near[3])))


def test_without_rounds_the_prototypes_stay(teacher: torch.nn.Module, images: Path, prototypes: Prototypes) -> None:
    assert fit(teacher, images, prototypes, torch.eye(384), rounds=0) is prototypes


def test_run_is_queried_with_what_was_fitted(tiny_run: Path) -> None:
    found = load_checkpoint(tiny_run).prototypes
    assert found.fitted is not None
    assert found.student_bank is not None
    assert found.bank is not None
    assert len(found.student_bank) == len(found.bank) > 0
    assert not torch.equal(found.query_known, found.known)
    torch.testing.assert_close(found.fitted.norm(dim=1), torch.ones(len(found.fitted)))
    segmenter = Segmenter.load(tiny_run)
    names, vectors = segmenter.class_vectors()
    assert names == found.names
    assert torch.equal(vectors, found.query_known)
    # a new name is found by what the teacher sees, and is what the student sees there
    text = segmenter.classifier.text(ClassList(("violin",), (("violin",),)))
    by_bank = known_prototypes(text, found.bank.float(), 8, found.student_bank.float())
    torch.testing.assert_close(segmenter.class_vectors("violin")[1], by_bank)


@pytest.mark.parametrize(
    "how",
    [
        ("extensions.student_prototypes=true",),
        ("extensions.em_iterations=2",),
        ("extensions.em_iterations=2", "extensions.unknown_in_fit=true"),
        ("extensions.student_prototypes=true", "extensions.exclusive_prototypes=true"),
    ],
)
def test_several_prototypes_turn_with_the_student(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes, how: tuple[str, ...]
) -> None:
    """Each is what the student sees of a segment; without a prior, which would hold them where the teacher is."""
    turn = torch.linalg.qr(unit(384, 384).float())[0]
    several = replace(prototypes, known=prototypes.known.repeat_interleave(2, 0), per_class="nearest")
    straight, turned = (
        fit(teacher, images, several, each, 0, *how, "extensions.prior_weight=0") for each in (torch.eye(384), turn)
    )
    assert straight.fitted is not None
    assert straight.fitted.shape == (6, 384)
    torch.testing.assert_close(straight.fitted.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(turned.query_known, straight.query_known @ turn.T, rtol=0, atol=0.02)
    if how == ("extensions.student_prototypes=true",):
        assert straight.bank is not None
        found = known_prototypes(prototypes.text, straight.bank.float(), 2, per_class="nearest")
        torch.testing.assert_close(straight.query_known, found, rtol=0, atol=2e-3)


def test_prior_of_each_of_several_prototypes_is_the_teachers_vector_of_its_segment(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes
) -> None:
    turn = torch.linalg.qr(unit(384, 384).float())[0]
    several = replace(prototypes, known=prototypes.known.repeat_interleave(2, 0), per_class="nearest")
    found = fit(teacher, images, several, turn, 1, "extensions.prior_weight=1e6")
    assert found.bank is not None
    assert found.student_bank is not None
    bank, seen = found.bank.float(), found.student_bank.float()
    of_teacher, of_student = (known_prototypes(prototypes.text, bank, 2, rows, "nearest") for rows in (bank, seen))
    held = (found.query_known - of_teacher).abs().amax(1) < 2e-3
    assert held.sum() >= 2
    # one that is the nearest of no pixel stays where it began
    torch.testing.assert_close(found.query_known[~held], of_student[~held], rtol=0, atol=2e-3)


def test_prototypes_of_earlier_runs_are_the_teachers() -> None:
    rows = F.normalize(torch.eye(3), dim=1)
    old = Prototypes(ClassList(("a", "b"), (("a",), ("b",))), rows[:2], rows[:2], rows[2:])
    assert torch.equal(old.queries(), old.all())
    fitted = mixture_prototypes(rows, rows, torch.zeros(3, dtype=torch.int64), 1, 0.1, 1)
    new = Prototypes(old.classes, old.text, old.known, old.unknown, fitted=fitted.flip(1))
    assert torch.equal(new.queries(), fitted.flip(1))


def test_no_more_images_are_held_than_the_limit(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(teacher, images, prototypes, torch.eye(384))
    monkeypatch.setattr(clips4.training.prototype_fitting, "IMAGES", 1)
    part = fit(teacher, images, prototypes, torch.eye(384))
    assert whole.bank is not None
    assert part.bank is not None
    assert 0 < len(part.bank) < len(whole.bank)


def test_without_em_prototypes_are_the_students_mean_over_the_teachers_segments(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes
) -> None:
    turn = torch.linalg.qr(unit(384, 384).float())[0]
    fitted = fit(teacher, images, prototypes, turn, 0, "extensions.student_prototypes=true")
    assert fitted.bank is not None
    assert fitted.student_bank is not None
    own = known_prototypes(prototypes.text, fitted.bank.float(), 2, fitted.student_bank.float())
    torch.testing.assert_close(fitted.query_known, own, rtol=0, atol=1e-3)
    labels = (fitted.bank.float() @ prototypes.all().T).argmax(1)
    for index, vector in enumerate(fitted.query_unknown, 2):
        members = fitted.student_bank.float()[labels == index]
        expected = F.normalize(members.sum(0), dim=0) if len(members) else prototypes.unknown[index - 2]
        torch.testing.assert_close(vector, expected, rtol=0, atol=1e-3)


def test_text_prior_pulls_the_students_prototypes_to_their_names(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes
) -> None:
    own = "extensions.student_prototypes=true"
    plain, pulled = (fit(teacher, images, prototypes, torch.eye(384), 0, own, *more) for more in ((), (PRIOR,)))
    expected = F.normalize(plain.query_known + 2 * prototypes.text, dim=1)
    torch.testing.assert_close(pulled.query_known, expected, rtol=0, atol=1e-5)
    assert (plain.text_prior, pulled.text_prior) == (0, 2)
    assert torch.equal(plain.query_unknown, pulled.query_unknown)


def test_fit_with_a_text_prior_alone_mixes_the_teachers_prototypes(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes
) -> None:
    given = replace(prototypes, known=unit(2, 384, seed=5).float())
    found = fit(teacher, images, given, torch.eye(384), 0, PRIOR)
    torch.testing.assert_close(found.query_known, F.normalize(given.known + 2 * given.text, dim=1))
    assert torch.equal(found.query_unknown, given.unknown)
    assert (found.bank, found.student_bank, found.text_prior) == (given.bank, None, 2)


def test_without_em_and_prototypes_of_its_own_nothing_is_computed(
    teacher: torch.nn.Module, images: Path, prototypes: Prototypes
) -> None:
    assert fit(teacher, images, prototypes, torch.eye(384), 0) is prototypes
