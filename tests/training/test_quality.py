"""The quality report: which images are kept out, its figures, its verdicts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clips4.training.quality import (
    FILE,
    Quality,
    agreement,
    class_extremes,
    held_out,
    mirrored_agreement,
    names_fit,
    write_quality,
)
from tests.helpers import generator, unit

SOUND = Quality(images=24, held_out=2, agreement=0.66, names_fit=0.003)


@pytest.mark.parametrize(
    ("images", "share", "count"),
    [(9, 0.1, 0), (10, 0.1, 2), (24, 0.1, 2), (100, 0.1, 10), (5000, 0.1, 32), (100, 0, 0), (10, 1, 9)],
)
def test_held_out_count_follows_the_share_within_limits(images: int, share: float, count: int) -> None:
    assert len(held_out(range(images), share)) == count


def test_held_out_images_are_usable_different_and_the_same_every_time() -> None:
    usable = [3 * i for i in range(57)]
    found = held_out(usable, 0.2)
    assert set(found) < set(usable)
    assert len(set(found)) == len(found)
    assert list(found) == sorted(found)
    assert held_out(usable, 0.2) == found


def test_agreement_is_the_share_of_equal_labels() -> None:
    assert agreement(torch.tensor([[0, 1], [2, 2]]), torch.tensor([[0, 1], [2, 0]])) == 0.75


def test_agreement_of_other_shapes_fails_with_both() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\), \(2, 3\)"):
        agreement(torch.zeros(2, 2), torch.zeros(2, 3))


def test_mirrored_agreement_of_a_mirrored_larger_map_is_one() -> None:
    labels = torch.randint(4, (6, 8), generator=generator(0))
    view = labels.flip(-1).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert mirrored_agreement(labels, view) == 1
    assert mirrored_agreement(labels, view + 1) == 0


def test_class_extremes_finds_the_absent_and_the_one_that_swallows() -> None:
    assert class_extremes(torch.tensor([990, 10, 0]), ("a", "b", "c")) == (("c",), ("a",))
    assert class_extremes(torch.tensor([600, 400]), ("a", "b")) == ((), ())
    assert class_extremes(torch.tensor([5]), ("a",)) == ((), ())


def test_names_fit_is_small_for_names_that_fit_and_large_for_others() -> None:
    vocabulary = unit(500, 32, seed=1)
    pixels = F.normalize(vocabulary[:4].repeat_interleave(50, 0) + 0.05 * unit(200, 32, seed=2), dim=1)
    assert names_fit(pixels, vocabulary[:4], vocabulary) == 0
    assert names_fit(pixels, unit(4, 32, seed=3), vocabulary) > 0.01


def test_names_fit_without_pixels_fails() -> None:
    with pytest.raises(ValueError, match="got 0 and 3"):
        names_fit(unit(0, 8), unit(3, 8), unit(5, 8))


def test_sound_run_has_no_problem_and_uses_its_student() -> None:
    assert (SOUND.problems, SOUND.use_teacher) == ((), False)
    assert SOUND.line() == "Quality: sound on 2 held-out images; agreement with the teacher 66%."


@pytest.mark.parametrize(
    ("spoiled", "word", "teacher"),
    [
        (replace(SOUND, agreement=0.43), "agrees", True),  # the learning rate ten times too high, as measured
        (Quality(images=5), "only 5", True),
        (replace(SOUND, names_fit=0.0140), "--classes", False),
    ],
)
def test_spoiled_run_is_named_and_answered_by_the_better_of_the_two(spoiled: Quality, word: str, teacher: bool) -> None:
    assert len(spoiled.problems) == 1
    assert word in spoiled.line()
    assert spoiled.use_teacher is teacher
    assert ("teacher." in spoiled.line()) is teacher


def test_run_too_small_to_hold_out_says_that_nothing_was_measured() -> None:
    assert "not measured" in Quality(images=9).line()


def test_quality_file_holds_figures_ranges_and_verdict(tmp_path: Path) -> None:
    write_quality(tmp_path, replace(SOUND, agreement=0.2))
    found = json.loads((tmp_path / FILE).read_text())
    assert (found["agreement"], found["sound_ranges"]["agreement"]) == (0.2, [0.47, None])
    assert found["use_teacher"] is True
