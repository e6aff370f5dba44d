"""Every table from end to end: miniatures of the sets in their true layouts, and a small random CLIP."""

import json
from pathlib import Path

import pytest

from clips4.errors import UserError
from clips4.evaluation.reproduce.plan import Plan
from clips4.evaluation.reproduce.reproduce import reproduce
from clips4.evaluation.reproduce.tables import NAMES, find_table
from clips4.utils.progress import NoProgress
from tests.data.benchmarks.training_sets import all_sets
from tests.helpers import TINY, Recorder
from tests.models.teachers.models import write_clip

# the stand-in for CLIP's vocabulary has "cat" and no other class name
pytestmark = pytest.mark.filterwarnings("ignore:words that the text model")
SMALL = (
    *TINY,
    "student.backbone=efficientnet-lite0",
    "student.weights=builtin",
    "student.output_stride=32",
    "regions.method=slic",
    "data.workers=0",
    "data.inference_side=96",
    "teacher.templates=simple",
    "prototypes.unknown=2",
    "train.batch=2",
    "train.steps=1",
    "train.precision=32-true",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return all_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "model"
    write_clip(folder)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tables, which share runs."""
    return tmp_path_factory.mktemp("paper") / "out"


def plan(table: str, data: Path, clip: Path, out: Path, **other: object) -> Plan:
    overrides = (*SMALL, f"teacher.name={clip}")
    settings: dict[str, object] = {"overrides": overrides, "device": "cpu", "partial": True, **other}
    return Plan(find_table(table), data, out, **settings)  # type: ignore[arg-type]


def made(table: str, data: Path, clip: Path, out: Path, **other: object) -> dict[str, object]:
    text = reproduce(plan(table, data, clip, out, **other), None, NoProgress())
    record = json.loads((out / f"{table}.json").read_text())
    assert (out / f"{table}.md").read_text() == text
    page = (out / f"{table}.html").read_text()
    for row in record["rows"]:
        assert f"| {row['title']} |" in text
        assert row["title"] in page
    return record


def values(record: dict[str, object], column: str) -> dict[str, float | None]:
    return {row["key"]: row["values"][column] for row in record["rows"]}  # type: ignore[attr-defined]


def test_voc_has_teachers_and_students_with_and_without_background(data: Path, clip: Path, out: Path) -> None:
    record = made("voc", data, clip, out)
    found = values(record, "miou_present")
    for dataset in ("voc20", "voc21"):
        for row in ("maskclip", "maskclip-refined", "maskclip-plus", "clips4-text", "clips4-prototypes"):
            assert 0 <= found[f"{row}/{dataset}"] <= 1  # type: ignore[operator]
    sets = {(each["dataset"], each["split"]): each for each in record["sets"]}  # type: ignore[attr-defined]
    assert (sets["voc20", "trainaug"]["images"], sets["voc20", "trainaug"]["published"]) == (5, 10582)
    assert (sets["voc21", "val"]["images"], sets["voc21", "val"]["published"]) == (3, 1449)
    text = (out / "voc.md").read_text()
    assert "PARTIAL: voc20 trainaug has 5 of 10582 images." in text
    assert "mIoU, published" not in text, "no figure is shipped"


def test_finished_steps_are_not_done_again_and_published_figures_have_a_column(
    data: Path, clip: Path, out: Path
) -> None:
    before = made("voc", data, clip, out)
    template = out / "voc-published.yaml"
    text = template.read_text()
    assert "  clips4-text/voc20:\n    source:\n    miou_present:\n" in text
    filled = text.replace(
        "  clips4-text/voc20:\n    source:\n    miou_present:\n",
        "  clips4-text/voc20:\n    source: a paper, table 9\n    miou_present: 12.5\n",
    )
    template.write_text(filled)
    counted = Recorder()
    text = reproduce(plan("voc", data, clip, out), None, counted)
    assert counted.count == 0, "nothing was encoded, trained or scored"
    assert "mIoU, published" in text
    assert "12.50" in text
    assert "Published: a paper, table 9 (CLIP-S4, by text (voc20))." in text
    after = json.loads((out / "voc.json").read_text())
    assert [row["values"] for row in after["rows"]] == [row["values"] for row in before["rows"]]  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="was done with other settings"):
        reproduce(plan("voc", data, clip, out, overrides=(*SMALL, f"teacher.name={clip}", "train.lr=1")), None, counted)


def test_unsupervised_and_tracking_use_the_runs_of_other_tables(data: Path, clip: Path, out: Path) -> None:
    tracked = made("tracking", data, clip, out)
    assert values(tracked, "j_and_f")["still/davis17"] == pytest.approx(1), "the truth stands still"
    assert [each["published"] for each in tracked["sets"] if each["dataset"] == "davis17"] == [30]  # type: ignore[attr-defined]
    runs = sorted(path.name for path in (out / "runs").iterdir())
    assert "voc" in runs


@pytest.mark.slow
@pytest.mark.parametrize("table", ["stuff", "unsupervised", "embedding-figure", "ablation"])
def test_other_tables_have_all_their_rows(table: str, data: Path, clip: Path, out: Path) -> None:
    record = made(table, data, clip, out)
    rows = find_table(table).rows
    assert [row["key"] for row in record["rows"]] == [row.key for row in rows]  # type: ignore[attr-defined]
    column = next(iter(record["columns"]), None)  # type: ignore[call-overload]
    assert column is None or len(values(record, column)) == len(rows)
    figures = record["figures"]
    assert len(figures) == (2 if table == "embedding-figure" else 0)  # type: ignore[arg-type]
    for figure in figures:  # type: ignore[attr-defined]
        assert (out / figure["file"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_context_averages_known_and_unknown_classes_over_four_folds(data: Path, clip: Path, out: Path) -> None:
    record = made("context", data, clip, out)
    for column in ("miou_known", "miou_unknown", "miou_present"):
        assert all(0 <= value <= 1 for value in values(record, column).values())  # type: ignore[operator]
    # every class of the truth is unknown in one of four folds and known in three, so both means are that of all
    teacher = next(row for row in record["rows"] if row["key"] == "maskclip/context59")["values"]  # type: ignore[attr-defined]
    scored = json.loads((out / "steps/score-teacher-on-context59.json").read_text())["result"]["rows"][0]
    ious = [each["iou"] for each in scored["per_class"] if each["in_truth"]]
    assert len(ious) == 4
    assert teacher["miou_unknown"] == pytest.approx(sum(ious) / 4)
    assert teacher["miou_known"] == pytest.approx(sum(ious) / 4)
    for fold in range(4):
        own = json.loads((out / f"steps/score-context-fold-{fold}-on-context59-seed-0.json").read_text())["result"]
        assert (own["fold"], own["split"]) == (fold, "val")
        assert len(own["unknown_classes"]) in (14, 15)


def test_sets_that_are_not_as_published_are_refused(data: Path, clip: Path, tmp_path: Path) -> None:
    whole = plan("voc", data, clip, tmp_path / "out", partial=False)
    with pytest.raises(UserError, match=r"voc20 val is not as published: 3 labeled, 1449 were published.*--partial"):
        reproduce(whole, None, NoProgress())
    assert not list((tmp_path / "out/steps").glob("*.json")), "a failed check is no finished step"
    with pytest.raises(UserError, match="coco-stuff171 val is not there"):
        reproduce(plan("stuff", tmp_path, clip, tmp_path / "other"), None, NoProgress())
    nowhere = plan("voc", tmp_path / "nowhere", clip, tmp_path / "none")
    with pytest.raises(UserError, match="give the folder that holds the sets"):
        reproduce(nowhere, None, NoProgress())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stand_in", [False, True])
def test_every_table_is_consistent(name: str, stand_in: bool) -> None:
    table = find_table(name, stand_in)
    assert len({row.key for row in table.rows}) == len(table.rows)
    assert len({each.name for each in table.scorings}) == len(table.scorings)
    assert len({each.name for each in table.trainings}) == len(table.trainings)
    assert table.rows or table.figures


def test_unknown_table_is_refused() -> None:
    with pytest.raises(UserError, match="give one of voc, context"):
        find_table("imagenet")
