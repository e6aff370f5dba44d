"""How the figures of the quality report are measured; runs that are spoiled on purpose."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clips4.config import load_config
from clips4.data.class_names import load_classes
from clips4.models.checkpoint import load_checkpoint
from clips4.training.loop import train
from clips4.training.quality.assessment import Views, add_views, agreement, class_extremes, fit_of_names, loss_ratio
from clips4.training.quality.report import FILE, Quality, read_quality
from tests.helpers import TINY, conse, unit, write_images

NAMES = ("cat", "cup", "grass")


def views(student: torch.Tensor, teacher: torch.Tensor, unknown: bool = False) -> Views:
    return Views(student, student, teacher, student, teacher, torch.full(student.shape, unknown), 0.5)


def test_agreement_is_the_share_of_equal_labels() -> None:
    assert agreement(torch.tensor([[0, 1], [2, 2]]), torch.tensor([[0, 1], [2, 0]])) == 0.75


def test_agreement_of_other_shapes_fails_with_both() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\), \(2, 3\)"):
        agreement(torch.zeros(2, 2), torch.zeros(2, 3))


def test_class_extremes_finds_the_absent_and_the_one_that_swallows() -> None:
    assert class_extremes(torch.tensor([990, 10, 0]), ("a", "b", "c")) == (("c",), ("a",))
    assert class_extremes(torch.tensor([600, 400]), ("a", "b")) == ((), ())
    assert class_extremes(torch.tensor([5]), ("a",)) == ((), ())


def test_add_views_of_a_collapsed_student_names_what_it_lost_and_what_swallows() -> None:
    teacher = torch.tensor([[0, 1, 2], [0, 1, 2]])
    found = add_views(Quality(images=9), [views(torch.zeros_like(teacher), teacher)], NAMES)
    assert (found.never, found.swallowing) == (("cup", "grass"), ("cat",))
    assert found.lost == pytest.approx(2 / 3)
    assert found.agreement == pytest.approx(1 / 3)
    assert found.use == "teacher"


def test_add_views_does_not_blame_the_student_for_what_its_teacher_does() -> None:
    same = torch.zeros(4, 4, dtype=torch.int64)
    found = add_views(Quality(images=9), [views(same, same)], NAMES)
    assert (found.swallowing, found.lost, found.agreement, found.verdict) == ((), 0, 1, "good")


def test_add_views_of_one_class_has_no_agreement() -> None:
    same = torch.zeros(4, 4, dtype=torch.int64)
    assert add_views(Quality(images=9), [views(same, same)], ("cat",)).agreement is None


def test_add_views_of_unknown_positions_alone_predicts_no_class() -> None:
    same = torch.zeros(4, 4, dtype=torch.int64)
    found = add_views(Quality(images=9), [views(same, same, unknown=True)], NAMES)
    assert (found.unknown, found.never) == (1.0, NAMES)


def test_loss_ratio_compares_the_last_tenth_with_the_first() -> None:
    assert loss_ratio([4.0] * 10 + [1.0] * 80 + [2.0] * 10) == 0.5
    assert loss_ratio([1.0] * 19) is None
    assert loss_ratio([0.0] * 40) is None


def test_fit_of_names_is_one_for_names_that_fit_and_less_for_others() -> None:
    vocabulary = unit(500, 32, seed=1)
    pixels = F.normalize(vocabulary[:4].repeat_interleave(50, 0) + 0.05 * unit(200, 32, seed=2), dim=1)
    assert fit_of_names(pixels, vocabulary[:4], vocabulary) == pytest.approx([1] * 4)
    assert max(fit_of_names(pixels, unit(4, 32, seed=3), vocabulary)) < 0.74
    assert fit_of_names(pixels[:0], vocabulary[:4], vocabulary) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 12, 64, 96)
    return folder


def trained(folder: Path, run: Path, count: int, names: str, *overrides: str, report: bool = True) -> Quality | None:
    config = load_config("cpu", [*TINY, "train.save_every=100", *overrides])
    paths = sorted(folder.iterdir())[:count]
    return train(paths, load_classes(names), config, run, device="cpu", teacher=conse(), report=report).quality


def test_run_with_five_images_is_named_and_uses_its_teacher(folder: Path, tmp_path: Path) -> None:
    quality = trained(folder, tmp_path / "run", 5, "cat,cup,grass")
    assert quality is not None
    assert "only 5 training images" in quality.line()
    assert load_checkpoint(tmp_path / "run").card["use"] == "teacher"
    assert read_quality(tmp_path / "run") == quality


def test_run_with_a_name_that_fits_nothing_names_it(folder: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="does not know: 'xqzt', 'zzqqk'"):
        quality = trained(folder, tmp_path / "run", 12, "xqzt,zzqqk,wompathic")
    assert quality is not None
    assert quality.names_fit is not None
    assert quality.names_fit < 0.66
    assert "most names fit the images badly" in quality.line()


def test_run_with_held_out_images_trains_on_the_others_and_measures_those(folder: Path, tmp_path: Path) -> None:
    quality = trained(folder, tmp_path / "run", 12, "cat,cup,grass", "train.holdout=0.125")
    assert quality is not None
    assert (quality.images, quality.measured_on, quality.held_out) == (10, 2, True)
    figures = json.loads((tmp_path / "run" / FILE).read_text("utf-8"))["figures"]
    assert 0 <= figures["view_agreement"]["value"] <= 1


def test_report_does_not_change_the_weights_and_can_be_left_out(folder: Path, tmp_path: Path) -> None:
    assert trained(folder, tmp_path / "without", 12, "cat,cup,grass", report=False) is None
    trained(folder, tmp_path / "with", 12, "cat,cup,grass")
    cards = [load_checkpoint(tmp_path / name).card for name in ("without", "with")]
    assert cards[0]["files"] == cards[1]["files"]
    assert "use" not in cards[0]
