"""Steps, keys and folders of a plan."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clips4.cli.app import app
from clips4.data.benchmarks.davis import SPLITS as DAVIS_SPLITS
from clips4.data.benchmarks.registry import SEMANTIC
from clips4.errors import UserError
from clips4.evaluation.reproduce.costs import CARDS, describe, estimate
from clips4.evaluation.reproduce.page import gather, notes, render, to_markdown
from clips4.evaluation.reproduce.plan import Check, Plan
from clips4.evaluation.reproduce.published import Published, read_published, template
from clips4.evaluation.reproduce.sets import PUBLISHED_SETS
from clips4.evaluation.reproduce.tables import NAMES, Scoring, Training, find_table
from clips4.evaluation.reproduce.work import do_steps
from clips4.utils.progress import NoProgress

# as the archives of the sets state them
PUBLISHED_COUNTS = {
    ("voc20", "trainaug"): 10582,
    ("voc20", "train"): 1464,
    ("voc20", "val"): 1449,
    ("voc21", "val"): 1449,
    ("context59", "train"): 4998,
    ("context59", "val"): 5105,
    ("coco-stuff171", "train"): 118287,
    ("coco-stuff171", "val"): 5000,
}


def plan(table: str, **other: object) -> Plan:
    return Plan(find_table(table), Path("sets"), Path("out"), **other)  # type: ignore[arg-type]


def test_counts_of_the_sets_are_the_published_ones() -> None:
    for (dataset, split), count in PUBLISHED_COUNTS.items():
        assert SEMANTIC[dataset].splits[split] == count
    assert DAVIS_SPLITS["davis17"]["val"] == 30
    assert PUBLISHED_SETS.voc.train == "trainaug"
    assert PUBLISHED_SETS.context.folds == (0, 1, 2, 3)


def test_steps_check_train_and_score_in_this_order_with_every_seed() -> None:
    steps = plan("context", seeds=(0, 1, 2)).steps()
    kinds = [type(step.work) for step in steps]
    assert kinds == sorted(kinds, key=[Check, Training, Scoring].index)
    assert sum(kind is Training for kind in kinds) == 4 * 2 * 3
    assert sum(kind is Scoring for kind in kinds) == 4 * 2 * 3 + 1, "the teacher has neither seeds nor folds"
    checks = {(step.work.dataset, step.work.split): step.work.labels for step in steps if isinstance(step.work, Check)}
    assert checks == {("context59", "val"): True, ("context59", "train"): False}
    assert len({step.name for step in steps}) == len(steps)


def test_eight_sets_are_those_of_the_field_and_their_mean_has_all() -> None:
    table = find_table("eight-sets")
    assert not table.trainings
    rows = {row.key: row for row in table.rows}
    backgrounds = {
        s.scoring.choice.dataset: SEMANTIC[s.scoring.choice.dataset].background for s in rows["maskclip/mean"].sources
    }
    assert sum(backgrounds.values()) == 3
    assert len(backgrounds) == 8
    assert len(rows) == 2 * 9


def test_labels_that_are_learned_from_are_checked() -> None:
    steps = plan("unsupervised").steps()
    checks = {(step.work.dataset, step.work.split): step.work.labels for step in steps if isinstance(step.work, Check)}
    assert checks["voc21", "train"]
    assert not checks["voc20", "trainaug"]


def test_checks_of_one_split_by_two_tables_are_one_step_or_two() -> None:
    """Tables share a folder: one needs the labels of a split, another its files alone."""
    voc, tracking = (
        {step.name: one.key(step) for step in one.steps()}
        for one in (plan("voc"), plan("tracking"), plan("unsupervised"))[:2]
    )
    assert voc.keys() & tracking.keys() == {"check-files-voc20-trainaug", "train-voc-seed-0"}
    steps: dict[str, str] = {}
    for name in NAMES:
        for stand_in in (False, True):
            one = Plan(find_table(name, stand_in), Path("sets"), Path("out"))
            for step in one.steps():
                assert steps.setdefault(f"{stand_in} {step.name}", one.key(step)) == one.key(step), step.name


def test_key_depends_on_what_the_result_depends_on_alone() -> None:
    one = plan("voc")
    step = next(step for step in one.steps() if step.name == "train-voc-seed-0")
    score = next(step for step in one.steps() if step.name == "score-voc-on-voc20-seed-0")
    assert plan("voc", protocol="tcl").key(step) == one.key(step)
    assert plan("voc", protocol="tcl").key(score) != one.key(score)
    for same in ({"overrides": ("data.workers=2",)}, {"device": "cpu"}, {"seeds": (0, 1)}):
        assert plan("voc", **same).key(step) == one.key(step)
    assert plan("voc", overrides=("train.lr=1",)).key(step) != one.key(step)
    plus = next(step for step in one.steps() if step.name == "train-voc-maskclip-plus-seed-0")
    assert isinstance(plus.work, Training)
    assert one.config(plus.work, 0).objective.mode == "maskclip-plus"


@pytest.mark.parametrize(("images", "there"), [(100, True), (60, False)])
def test_check_of_a_whole_set_counts_with_and_without_partial(tmp_path: Path, images: int, there: bool) -> None:
    strict = Plan(find_table("voc", True), tmp_path, tmp_path)
    step, partial = strict.steps()[0], replace(strict, partial=True)
    for made, asked, expected in ((strict, partial, True), (partial, strict, there)):
        found = {"key": made.key(step), "result": {"images": images, "published": 100}}
        made.path(step).parent.mkdir(exist_ok=True)
        made.path(step).write_text(json.dumps(found))
        assert (asked.result(step) is not None) == expected, "a set with fewer images is checked again, and refused"
        assert made.result(step) is not None


def test_table_of_stand_ins_is_marked_in_its_title() -> None:
    table = find_table("voc", stand_in=True)
    assert (table.title, table.about) == ("Pascal VOC, by class names (stand-in sets)", "")


@pytest.mark.parametrize(
    ("preset", "line"),
    [
        ("cpu", 'TEACHER "conse": the built-in stand-in for CLIP.'),
        ("paper", "Teacher openai/clip-vit-base-patch16."),
    ],
)
def test_notes_name_the_teacher_and_mark_the_built_in_one(preset: str, line: str) -> None:
    one = plan("embedding-figure", preset=preset)
    result = {"images": 3, "published": 3, "figure": "figures/a.png"}
    record = gather(one, [(step, {"seconds": 1.0, "result": result}) for step in one.steps()], {})
    assert any(note.startswith(line) for note in notes(record))
    assert not any("MaskCLIP" in note or "Percent" in note for note in notes(record)), "it has no rows"
    assert [figure["title"] for figure in record["figures"]] == ["Without alignment (L_t alone)", "With alignment"]


@pytest.mark.parametrize("name", NAMES)
def test_costs_cover_every_step_and_count_shared_preparation_once(name: str) -> None:
    one = plan(name)
    costs = estimate(one)
    assert [cost.step for cost in costs] == one.steps()
    assert all(cost.hours.keys() == {card.name for card in CARDS} for cost in costs)
    trained = [cost for cost in costs if isinstance(cost.step.work, Training)]
    assert all(cost.hours["2 CPU cores"] > 10 * cost.hours["A100 80 GB"] > 0 for cost in trained)
    splits = {(cost.step.work.dataset, cost.step.work.split) for cost in trained}  # type: ignore[union-attr]
    smallest = min((cost.disk_gib for cost in trained), default=0)
    assert sum(cost.disk_gib > smallest for cost in trained) <= len(splits)
    text = describe(one, costs)
    assert f"| {len(costs)} of {len(costs)} |" in text
    assert "Measured" in text
    assert "Estimated" in text


def test_costs_grow_with_the_set_and_the_steps() -> None:
    def hours(table: str, *overrides: str) -> float:
        return sum(cost.hours["A100 80 GB"] for cost in estimate(plan(table, overrides=overrides)))

    assert hours("voc", "train.steps=60000") > 1.5 * hours("voc")
    assert hours("voc", "train.precision=32-true") > hours("voc")
    assert hours("stuff") > hours("voc") - hours("voc", "train.steps=1"), "118,287 maps do not fit the cache"


def test_dry_run_prints_the_steps_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "tracking", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--dry-run"]
    app(args=arguments, standalone_mode=False)
    said = capsys.readouterr().out
    assert "| train-voc-seed-0 | to do |" in said
    assert "| score-voc-on-davis17-seed-0 | to do |" in said
    assert not (tmp_path / "out").exists()


def test_started_by_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clips4.utils.distributed.world_size", lambda: 2)
    with pytest.raises(UserError, match="--processes N starts N ranks"):
        do_steps(plan("voc"), NoProgress())


# --------------------------------------------------------------------------------------------------- published figures


def test_template_is_read_as_no_figure_at_all(tmp_path: Path) -> None:
    path = tmp_path / "published.yaml"
    for name in ("voc", "context", "tracking"):
        path.write_text(template(find_table(name)))
        assert read_published(path, find_table(name)) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("voc: {nobody/voc20: {source: a, miou_present: 1}}", "no such row"),
        ("voc: {clips4-text/voc20: {miou_present: 1}}", "figures and no source"),
        ("voc: {clips4-text/voc20: {source: a, iou: 1}}", "no column 'iou'"),
        ("voc: {clips4-text/voc20: {source: a, miou_present: 101}}", "a percentage from 0 to 100"),
        ("voc: {clips4-text/voc20: {source: a, miou_present: high}}", "a percentage from 0 to 100"),
        ("voc: [1, 2]", "write row keys"),
        ("voc: {clips4-text/voc20: 3}", "write source"),
        ("[1]", "write table, row and column"),
        ("voc: {", "invalid YAML"),
    ],
)
def test_wrong_published_figures_are_refused_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "published.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_published(path, find_table("voc"))
    assert "\n" not in str(caught.value)


def test_several_seeds_give_mean_and_deviation_of_the_mean_over_folds() -> None:
    """Two seeds of the table context, with scores that are easily averaged by hand."""
    one = plan("context", seeds=(0, 1), stand_in=True)
    results = []
    for step in one.steps():
        if isinstance(step.work, Check):
            found: dict[str, object] = {"images": 3, "published": 3}
        elif isinstance(step.work, Training):
            found = {}
        else:
            fold = step.work.fold or 0
            score = {"miou_known": 0.1 * fold + 0.1 * step.seed, "miou_unknown": None, "miou_present": 0.5}
            classes = [{"name": "cat", "iou": 0.25, "in_truth": True}, {"name": "dog", "iou": None, "in_truth": False}]
            titles = ("student by text", "student by prototypes")
            if step.work.training is None:
                titles, score = ("teacher by text", "teacher by text, refined"), {"miou_present": 0.5}
            found = {"rows": [{"row": title, "per_class": classes, **score} for title in titles]}
        results.append((step, {"seconds": 1.0, "result": found}))
    figures = {"clips4-text/context59": Published("table 9", {"miou_known": 40.0})}
    record = gather(one, results, figures)
    rows = {row["key"]: row for row in record["rows"]}
    own = rows["clips4-text/context59"]
    assert own["values"]["miou_known"] == "20.00 ± 7.07", "15 and 25 percent"
    assert own["values"]["miou_unknown"] is None
    assert (own["published"], own["source"]) == ({"miou_known": 40.0}, "table 9")
    # cat is unknown in fold 2 alone: the mean over folds has no value where a fold has none
    assert rows["maskclip/context59"]["values"]["miou_known"] is None
    text, page = to_markdown(record), render(one, record)
    for shown in (text, page):
        assert "20.00 ± 7.07" in shown
        assert "40.00" in shown
        assert "STAND-INS" in shown
    assert "Published: table 9 (CLIP-S4, by text (context59))." in text
    assert any("seeds 0, 1; mean ± standard deviation" in note for note in notes(record))
    without = render(one, gather(one, results, {}))
    assert 'class="published"' in page
    assert 'class="published"' not in without, "columns of published figures only where there are any"
    json.dumps(record)
