"""The quality report: which images are kept out, its verdicts, its file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clips4.training.quality import (
    FILE,
    Quality,
    held_out,
    read_quality,
    split_held_out,
    write_quality,
)

SOUND = Quality(images=24, measured_on=2, held_out=True, agreement=0.66, cosine=0.5, names_fit=0.85)


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


def test_split_held_out_keeps_every_image_once_and_shards_whole() -> None:
    paths = [Path(f"{i}.jpg") for i in range(24)]
    training, out = split_held_out(paths, 0.125)
    assert (len(training), out) == (21, [paths[4], paths[12], paths[20]])
    assert sorted(training + out) == sorted(paths)
    assert split_held_out([Path("a.tar")] * 20, 0.5)[1] == []


def test_sound_run_is_good_and_uses_its_student() -> None:
    assert (SOUND.problems, SOUND.verdict, SOUND.use) == ((), "good", "student")
    assert SOUND.line() == "Quality: good; student and teacher agree on 66 % of positions (2 held-out images)."


@pytest.mark.parametrize(
    ("change", "word", "use"),
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
    change: dict[str, Any], word: str, use: str
) -> None:
    spoiled = replace(SOUND, **change)
    assert (spoiled.verdict, spoiled.use, len(spoiled.problems)) == ("doubtful", use, 1)
    assert spoiled.line().startswith("Quality: doubtful: ")
    assert word in spoiled.line()
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
