"""The quality report: its verdicts, its file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clips4.training.quality.report import FILE, Quality, read_quality, write_quality

SOUND = Quality(images=24, measured_on=2, held_out=True, agreement=0.66, cosine=0.5, names_fit=0.85)


def test_sound_run_is_good_and_uses_its_student() -> None:
    assert (SOUND.problems, SOUND.verdict, SOUND.use) == ((), "good", "student")
    assert SOUND.line() == "Quality: good; student and teacher agree on 66 % of positions (2 held-out images)."


@pytest.mark.parametrize(
    ("change", "text", "use"),
    [
        ({"images": 5}, "only 5 training images", "teacher"),
        ({"cosine": 0.11}, "lower train.lr", "teacher"),  # ten times the learning rate, as measured
        ({"agreement": 0.2}, "agrees with its teacher on 20 %", "teacher"),
        ({"names_fit": 0.6}, "--classes", "student"),
        ({"strangers": ("xqzt",)}, "names fit nothing: 'xqzt'", "student"),
        ({"strangers": ("a", "b", "c", "d", "e")}, "'a', 'b', 'c' and 2 more", "student"),
        ({"swallowing": ("sky",)}, "swallows nearly everything: 'sky'", "teacher"),
        ({"lost": 0.9}, "never predicts 90 %", "teacher"),
        ({"unknown": 0.97}, "97 % of positions are unknown", "student"),
        ({"nonfinite": 0.5}, "50 % of the steps", "teacher"),
        ({"loss_ratio": 3.0}, "rose to 3.00", "teacher"),
        ({"loss_ratio": float("nan")}, "lower train.lr", "teacher"),
    ],
)
def test_spoiled_run_is_named_and_predicts_with_the_better_of_the_two(
    change: dict[str, Any], text: str, use: str
) -> None:
    spoiled = replace(SOUND, **change)
    assert (spoiled.verdict, spoiled.use, len(spoiled.problems)) == ("doubtful", use, 1)
    assert spoiled.line().startswith("Quality: doubtful: ")
    assert text in spoiled.line()
    assert ("use the teacher" in spoiled.line()) is (use == "teacher")


def test_figures_that_were_not_measured_are_not_judged() -> None:
    bare = Quality(images=20)
    assert {each.verdict for each in bare.figures() if each.value is None} == {"not judged"}
    assert (bare.verdict, bare.use) == ("good", "student")


def test_every_judged_figure_states_its_range() -> None:
    for each in replace(SOUND, nonfinite=0.0, loss_ratio=0.5, lost=0.0, unknown=0.0, view_agreement=0.9).figures():
        assert bool(each.range_text) == (each.verdict != "not judged")


def test_quality_file_round_trips_and_holds_plain_values(tmp_path: Path) -> None:
    quality = replace(SOUND, agreement=0.2, strangers=("xqzt", "größe"))
    write_quality(tmp_path, quality)
    assert read_quality(tmp_path) == quality
    found = json.loads((tmp_path / FILE).read_text("utf-8"))
    assert (found["version"], found["verdict"], found["use"]) == (1, "doubtful", "teacher")
    assert found["figures"]["agreement"] == {"value": 0.2, "sound": [0.4, None], "is": "doubtful"}
    assert found["figures"]["never"]["is"] == "not judged"


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"version": 0}', '{"version": 1}', '{"version": 1, "figures": []}', "[" * 100_000, "\xff"),
        *(
            f'{{"version": 1, "measured_on": 1, "held_out": true, "figures": {figures}}}'
            for figures in ('{"images": {"value": "many"}}', '{"images": {"value": 9}, "lost": {"value": [1]}}')
        ),
    ],
)
def test_unreadable_quality_file_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    assert read_quality(tmp_path) is None
