"""clips4 evaluate, score and ablate on miniatures: what is written, and what is refused."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clips4.cli.app import main
from clips4.config import Config
from clips4.data.class_names import load_classes
from clips4.data.image_folder import find_images
from clips4.data.label_maps import read_labels
from clips4.errors import UserError
from clips4.inference.classifier import Query
from clips4.inference.encoding.features import KINDS, NAMED, load_features
from clips4.inference.refine.maskclip import Refinement
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import load_checkpoint
from clips4.training.loop import train
from clips4.utils.output_folder.manifest import read_entry
from clips4.utils.output_folder.output import Output
from tests.data.benchmarks import miniatures
from tests.helpers import TINY, FakeTeacher, conse, photograph

SETTINGS = [part for setting in TINY for part in ("--set", setting)]
Runs = Callable[..., str]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runs:
    """Runs a command in this process; gives what it printed, or the line it failed with."""

    def run(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["clips4", *map(str, arguments)])
        try:
            main()
        except SystemExit as stopped:
            said = capsys.readouterr()
            if stopped.code == 2:
                assert len(said.err.splitlines()) == 1, said
                return said.err
            if stopped.code:
                raise AssertionError(said) from stopped
            return said.out
        return capsys.readouterr().out

    return run


HOMES = ("clips4.evaluation.run", "clips4.inference.opening", "clips4.inference.segmenter", "clips4.training.setup")


@pytest.fixture(autouse=True)
def one_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in teacher takes seconds to make; one serves all commands of these tests."""
    for home in HOMES:
        monkeypatch.setattr(f"{home}.load_teacher", lambda asked: conse() if asked.name == "conse" else FakeTeacher())


def small_coco(root: Path) -> Path:
    """Three photographs with a cat (17) before grass (193) and something that is not scored (0)."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for index in range(3):
        photograph(seed=index).save(root / f"images/{index}.png")
        labels = np.full((72, 96), 193, np.uint8)
        labels[18:54, 30:66], labels[:5] = 17, 0
        Image.fromarray(labels).save(root / f"masks/{index}.png")
    return root


def small_camvid(root: Path) -> Path:
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for index in range(2):
            photograph(seed=index).save(root / split / f"{index}.png")
            labels = np.zeros((72, 96), np.uint8)
            labels[18:54, 30:66], labels[:5] = 8, 11
            Image.fromarray(labels).save(root / f"{split}annot/{index}.png")
    return root


def test_language_driven_record_and_images(tiny_run: Path, tmp_path: Path, runs: Runs) -> None:
    root, out, report = small_coco(tmp_path / "coco"), tmp_path / "out.json", tmp_path / "report"
    said = runs(
        *("evaluate", "language", tiny_run, "--dataset", "coco128", "--root", root, "--teacher", "run"),
        *("--record", out, "--report", report, "--device", "cpu"),
    )
    record = json.loads(out.read_text())
    names = ["student by text", "student by prototypes", "teacher by text", "teacher by prototypes"]
    assert [row["row"] for row in record["rows"]] == names
    assert all(f"| {name} |" in said for name in names)
    assert record["protocol"]["id"] == "clips4-v1"
    for key in ("classes_hash", "commit", "versions", "seed", "step", "config", "split", "teacher", "command"):
        assert key in record, key
    for row in record["rows"]:
        assert len(row["per_class"]) == 92
        assert [image["name"] for image in row["per_image"]] == ["0", "1", "2"]
        assert row["pixels"] == 3 * 96 * 67
    names = sorted(path.name for path in report.glob("[!.]*"))
    assert names[:2] == ["confusion.png", "embedding.png"]
    assert [name[:7] for name in names[2:]] == ["worst01", "worst02", "worst03"]
    with pytest.raises(UserError, match="clips4 wrote it"):
        find_images([report])


def test_known_and_unknown_classes(tiny_run: Path, tmp_path: Path, runs: Runs) -> None:
    """The run knows cat, cup and grass; fold 0 keeps none of them unknown, fold 2 keeps cat."""
    root, out = small_coco(tmp_path / "coco"), tmp_path / "out.json"
    arguments = ("evaluate", "language", tiny_run, "--dataset", "coco128", "--root", root, "--device", "cpu")
    assert "was trained with the name 'cat', which fold 2 keeps unknown" in runs(*arguments, "--fold", "2")
    said = runs(*arguments, "--fold", "0", "--record", out)
    assert "known | unknown" in said
    record = json.loads(out.read_text())
    assert len(record["unknown_classes"]) == 31
    assert record["rows"][0]["miou_unknown"] is None, "none of them occurs"
    assert record["rows"][0]["miou_known"] == pytest.approx(record["rows"][0]["miou_present"])


def test_images_count_for_new_names_of_a_fitted_student(
    tiny_run: Path, images: Path, tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All segments of the training images give what the bank gives, which holds them all; other images give others."""
    root, out = small_coco(tmp_path / "coco"), tmp_path / "out.json"
    found: list[torch.Tensor] = []

    def scores_nothing(segmenter: object, dataset: object, queries: dict[str, Query], *_: object) -> dict[str, object]:
        found.append(queries["prototypes"].vectors)
        return {}

    monkeypatch.setattr("clips4.evaluation.run.evaluate_language", scores_nothing)
    arguments = ("evaluate", "language", tiny_run, "--dataset", "coco128", "--root", root, "--device", "cpu")
    other = tmp_path / "other"
    other.mkdir()
    photograph(seed=9).save(other / "other.png")
    for given in ((), ("--images", images), ("--images", other)):
        runs(*arguments, *given, "--json", out)
    bank, same, elsewhere = found
    prototypes = load_checkpoint(tiny_run).prototypes
    assert prototypes.student_bank is not None, "the run is fitted"
    names = load_classes("coco128").names
    new = [index for index, name in enumerate(names) if name not in prototypes.names]
    known = [index for index, name in enumerate(names) if name in prototypes.names]
    torch.testing.assert_close(same, bank, rtol=0, atol=2e-3)
    assert torch.equal(elsewhere[known], bank[known])
    assert (elsewhere[new] - bank[new]).abs().max() > 0.01


def test_teacher_alone_by_sclip(tmp_path: Path, runs: Runs) -> None:
    out = tmp_path / "out.json"
    runs(
        *("evaluate", "language", "--teacher", "fake", "--dataset", "voc21", "--root", miniatures.voc(tmp_path)),
        *("--protocol", "sclip", "--record", out, "--device", "cpu"),
    )
    record = json.loads(out.read_text())
    assert [row["row"] for row in record["rows"]] == ["teacher by text"]
    assert record["protocol"]["background"] == {"threshold": 0.1, "scale": 65, "asked": True, "area": 0.1}
    assert "run" not in record
    assert "give a run, or --teacher NAME" in runs("evaluate", "language", "--dataset", "voc21", "--root", tmp_path)


def test_refined_teacher_has_a_row_of_its_own(tmp_path: Path, runs: Runs) -> None:
    out, root = tmp_path / "out.json", small_coco(tmp_path / "coco")
    arguments = ("evaluate", "language", "--dataset", "coco128", "--root", root, "--device", "cpu")
    runs(*arguments, "--teacher", "fake", "--prompt-denoising", "--record", out)
    record = json.loads(out.read_text())
    assert [row["row"] for row in record["rows"]] == ["teacher by text", "teacher by text, refined"]
    assert record["refinement"] == asdict(Refinement(prompt_denoising=True))
    assert "fake has no attention keys" in runs(*arguments, "--teacher", "fake", "--key-smoothing")


def test_teacher_with_affinity_has_a_row_of_its_own(tmp_path: Path, runs: Runs) -> None:
    out, root = tmp_path / "out.json", small_coco(tmp_path / "coco")
    arguments = ("evaluate", "language", "--dataset", "coco128", "--root", root, "--device", "cpu")
    runs(*arguments, "--teacher", "conse", "--affinity", "--set", "data.long_side=96", "--record", out)
    record = json.loads(out.read_text())
    assert [row["row"] for row in record["rows"]] == ["teacher by text", "teacher by text, refined"]
    assert record["refinement"] == asdict(Refinement(affinity=True))
    plain, finer = (
        Segmenter.from_teacher("conse", device="cpu", refinement=each).embed(photograph(96, 128)).shape
        for each in (Refinement(), Refinement(affinity=True))
    )
    assert (plain, finer) == ((384, 3, 4), (384, 6, 8))
    assert "the network of teacher fake" in runs(*arguments, "--teacher", "fake", "--affinity")
    assert "--set is for a teacher alone" in runs(*arguments, tmp_path, "--set", "teacher.hypernyms=1")


@pytest.mark.parametrize("refine", ["lposs", "pamr", "regions"])
def test_refined_predictions_have_rows_of_their_own(refine: str, tmp_path: Path, runs: Runs) -> None:
    out, root = tmp_path / "out.json", small_coco(tmp_path / "coco")
    arguments = ("evaluate", "language", "--root", root, "--device", "cpu", "--teacher", "fake", "--refine", refine)
    runs(*arguments, "--dataset", "coco128", "--record", out)
    record = json.loads(out.read_text())
    plain, refined = record["rows"]
    assert (plain["row"], refined["row"]) == ("teacher by text", "teacher by text, refined")
    assert record["refine"] == refine
    assert record["refinement"] is None
    if refine != "lposs":
        said = runs(*arguments, "--dataset", "voc21")
        assert f"--refine {refine}: voc21 has a background class, where only lposs is scored" in said


def test_refined_student_has_a_row_for_each_query(tiny_run: Path, tmp_path: Path, runs: Runs) -> None:
    out = tmp_path / "out.json"
    arguments = ("evaluate", "language", tiny_run, "--dataset", "coco128", "--root", small_coco(tmp_path / "coco"))
    runs(*arguments, "--refine", "lposs", "--record", out, "--device", "cpu")
    rows = {row["row"]: row["miou"] for row in json.loads(out.read_text())["rows"]}
    names = [f"student by {how}" for how in ("text", "prototypes")]
    assert list(rows) == [*names, *(f"{name}, refined" for name in names)]
    assert "refine 'best': choose one of pamr, regions, lposs" in runs(*arguments, "--refine", "best")


def test_evaluate_unsupervised_every_task_has_a_row(tiny_run: Path, tmp_path: Path, runs: Runs) -> None:
    out, report = tmp_path / "out.json", tmp_path / "report"
    arguments = ("evaluate", "unsupervised", tiny_run, "--dataset", "camvid11", "--root", small_camvid(tmp_path / "cv"))
    runs(
        *(*arguments, "--features", "student,color", "--tasks", "clusters,neighbours,linear-probe", "--device", "cpu"),
        *("--side", "96", "--restarts", "1", "--record", out, "--report", report),
    )
    record = json.loads(out.read_text())
    assert [row["row"] for row in record["rows"]] == [
        f"{kind} by {task}" for kind in ("student", "color") for task in ("clusters", "knn", "linear-probe")
    ]
    assert len(record["rows"][0]["matching"]) == 11
    assert record["protocol"]["clusters"]["restarts"] == 1
    assert len(list(report.glob("*.png"))) == 6
    with pytest.raises(UserError, match="clips4 wrote it"):
        find_images([report])
    runs(*arguments, "--features", "colour", "--restarts", "1", "--report", report, "--device", "cpu")
    assert [path.name for path in report.glob("*.png")] == ["confusion_color_clusters.png"], "of this report alone"
    foreign = tmp_path / "foreign"
    Output(foreign, "segment", [], "").record_own([])
    assert "has the outputs of clips4 segment" in runs(*arguments, "--report", foreign)
    assert "--tasks 'naming'" in runs(*arguments, "--tasks", "naming")
    assert "features 'nose'" in runs(*arguments, "--features", "nose")


def test_evaluate_tracking_every_feature_has_a_row(tiny_run: Path, tmp_path: Path, runs: Runs) -> None:
    root, out = miniatures.davis(tmp_path / "davis"), tmp_path / "out.json"
    said = runs(
        *("evaluate", "tracking", tiny_run, "--dataset", "davis16", "--root", root, "--record", out),
        *("--features", "still,color,student", "--side", "64", "--device", "cpu"),
    )
    record = json.loads(out.read_text())
    assert [row["row"] for row in record["rows"]] == ["still", "color", "student"]
    assert record["rows"][0]["j_and_f"] == 1, "the truth stands still"
    assert "| still | 100.00 |" in said
    assert len(record["rows"][0]["objects"][0]["per_frame"]) == 2
    assert "davis16 or davis17" in runs("evaluate", "tracking", "--dataset", "voc21", "--root", root)


def test_scores_of_saved_predictions(tmp_path: Path, runs: Runs) -> None:
    root, pred, out = miniatures.voc(tmp_path / "voc"), tmp_path / "pred", tmp_path / "out.json"
    pred.mkdir()
    for path in (root / "VOCdevkit/VOC2012/SegmentationClass").iterdir():
        Image.fromarray(read_labels(path)).save(pred / path.name)
    said = runs("score", "semantic", "--pred", pred, "--gt", root, "--dataset", "voc21", "--record", out)
    assert "| pred | 100.00 | 100.00 | 100.00 | 100.00 |" in said
    record = json.loads(out.read_text())
    assert record["protocol"] == "clips4-score-semantic-v1"
    assert record["classes_in_neither"] == 18
    assert "one of the two" in runs("score", "semantic", "--pred", pred, "--gt", root)
    gt = root / "VOCdevkit/VOC2012/SegmentationClass"
    said = runs(
        "score", "semantic", "--pred", pred, "--gt", gt, "--classes", "voc21", "--no-boundary", "--workers", "2"
    )
    assert "| pred | 100.00 | 100.00 | 100.00 | - |" in said


def test_scores_of_saved_tracks(tmp_path: Path, runs: Runs) -> None:
    gt, out = miniatures.davis(tmp_path / "davis", 2017) / "Annotations/480p", tmp_path / "out.json"
    names = tmp_path / "davis/ImageSets/2017/val.txt"
    said = runs("score", "tracking", "--pred", gt, "--gt", gt, "--sequences", names, "--record", out)
    assert "| 480p | 100.00 | 100.00 | 100.00 | 0.00 |" in said
    record = json.loads(out.read_text())
    assert (record["rules"], len(record["objects"])) == ("davis17", 2)
    assert "give davis16 or davis17" in runs("score", "tracking", "--pred", gt, "--gt", gt, "--rules", "best")
    assert "no such file" in runs("score", "tracking", "--pred", gt, "--gt", gt, "--sequences", tmp_path / "no")


def test_ablation_is_one_table_and_resumes(tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = small_coco(tmp_path / "coco"), tmp_path / "ablation"
    common = ("ablate", root / "images", "--dataset", "coco128", "--root", root, "--out", out, "--device", "cpu")
    arguments = (*common, "--grid", "losses", "--grid", "m=1", "--grid", "vectors", *SETTINGS)
    table = runs(*arguments)
    rows = ["L_e", "L_t", "L_t + L_e", "L_t + L_s", "L_e + L_s", "L_t + L_e + L_s", "m 1"]
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        f"{name}, by {how}" for name in rows for how in ("text", "prototypes")
    ]
    assert (out / "table.md").read_text() == table
    listed = read_entry(out / ".clips4/clips4.json")
    assert listed
    assert listed["command"] == "ablate"
    assert listed["files"][0] == "table.md"
    assert all((out / name).is_dir() for name in listed["files"][1:])
    Image.new("RGB", (64, 48)).save(out / listed["files"][1] / "drawn.png")
    with pytest.raises(UserError, match="clips4 wrote it"):
        find_images([out])
    record = json.loads((out / "l_t/scores.json").read_text())
    assert record["config"]["objective"]["embedding_weight"] == 0
    assert record["config"]["objective"]["semantic_weight"] == 0

    trained: list[Path] = []

    def counted(paths: list[Path], classes: object, config: Config, run: Path, *rest: object) -> object:
        trained.append(run)
        return train(paths, classes, config, run, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("clips4.evaluation.ablation.train", counted)
    (out / "l_t+l_e/scores.json").unlink()
    assert runs(*arguments) == table
    assert trained == [out / "l_t+l_e"], "what was scored is not trained again"
    assert "was scored with other settings" in runs(*arguments, "--set", "train.lr=0.5")
    for damaged in (b"", b"\xff", b"[]", b'{"config": {}}'):
        (out / "l_t+l_e/scores.json").write_bytes(damaged)
        assert "scores.json: not" in runs(*arguments)
    assert "--grid 'kappa'" in runs(*common, "--grid", "kappa")
    assert "write numbers" in runs(*common, "--grid", "m=x")


def test_ablation_over_seeds_has_mean_and_deviation_and_any_setting_is_an_axis(tmp_path: Path, runs: Runs) -> None:
    root, out = small_coco(tmp_path / "coco"), tmp_path / "ablation"
    common = ("ablate", root / "images", "--dataset", "coco128", "--root", root, "--out", out, "--device", "cpu")
    axis = "regions.method=slic,felzenszwalb"
    table = runs(*common, "--grid", axis, "--seeds", "3,1", *SETTINGS)
    names = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert names == [
        f"regions.method {kind}, by {how}" for kind in ("slic", "felzenszwalb") for how in ("text", "prototypes")
    ]
    found = []
    for seed in (1, 3):
        record = json.loads((out / f"regions.method-felzenszwalb/seed-{seed}/scores.json").read_text())
        assert record["seed"] == record["config"]["train"]["seed"] == seed
        assert record["config"]["regions"]["method"] == "felzenszwalb"
        found.append(100 * record["rows"][1]["pixel_accuracy"])
    cell = table.splitlines()[-1].split("|")[3].strip()
    assert cell == f"{np.mean(found):.2f} ± {np.std(found, ddof=1):.2f}"
    assert "--seeds 'a'" in runs(*common, "--seeds", "a")
    # a score that there is none of (a fold none of whose classes is in the truth) is a dash, as with one seed
    for seed in (1, 3):
        path = out / f"regions.method-felzenszwalb/seed-{seed}/scores.json"
        record = json.loads(path.read_text())
        record["rows"] = [{**row, "miou_present": None} for row in record["rows"]]
        path.write_text(json.dumps(record))
    assert runs(*common, "--grid", axis, "--seeds", "3,1", *SETTINGS).splitlines()[-1].split("|")[2].strip() == "-"


def test_copy_is_checked_by_doctor(tmp_path: Path, runs: Runs) -> None:
    assert "give both --data DIR and --dataset NAME" in runs("doctor", "--dataset", "voc21")
    with pytest.raises(AssertionError, match="2 labeled, 1449 published"):  # exit code 1, which `runs` does not expect
        runs("doctor", "--data", miniatures.voc(tmp_path), "--dataset", "voc21")


@pytest.mark.parametrize("kind", [*KINDS, "student:z+c3+c4", "backbone:c2+c3", "student:c5"])
def test_features_of_every_kind_are_unit_and_of_one_stride(tiny_run: Path, kind: str) -> None:
    image = np.array(photograph(72, 100))
    z = load_features(kind, tiny_run, 96, "cpu").embed(image)
    assert z.shape[1:] == (9, 12), "72 x 100 is read as 69 x 96"
    assert z.norm(dim=0).sub(1).abs().max() < 1e-5


def test_parts_are_side_by_side_each_with_equal_weight(tiny_run: Path) -> None:
    image = np.array(photograph(72, 100))
    z, c3, both = (load_features(f"student:{parts}", tiny_run, 96, "cpu").embed(image) for parts in ("z", "c3", "z+c3"))
    torch.testing.assert_close(both, torch.cat([z, c3]) / 2**0.5)


@pytest.mark.parametrize(("name", "parts"), NAMED.items())
def test_names_include_their_parts(name: str, parts: str, tiny_run: Path) -> None:
    image = np.array(photograph())
    named, written = (load_features(kind, tiny_run, 96, "cpu").embed(image) for kind in (name, parts))
    assert torch.equal(named, written)


@pytest.mark.parametrize(
    "kind", ["student:", "student:z+z", "student:c6", "backbone:z", "nose:c3", "color:z", "student+z"]
)
def test_features_that_there_are_not_are_refused(kind: str, tiny_run: Path) -> None:
    with pytest.raises(UserError, match=r"features .* as in student:z\+c3\+c4"):
        load_features(kind, tiny_run, 96, "cpu")


def test_backbone_features_are_those_before_training(tiny_run: Path) -> None:
    image = np.array(photograph())
    with_run, without = (load_features("backbone", run, 96, "cpu").embed(image) for run in (tiny_run, None))
    assert (with_run - without).abs().max() < 1e-6


@pytest.mark.parametrize(
    "command",
    ["evaluate language", "evaluate unsupervised", "evaluate tracking", "score semantic", "score tracking", "ablate"],
)
def test_every_command_has_an_example(command: str, runs: Runs) -> None:
    assert f"Example: clips4 {command}" in " ".join(runs(*command.split(), "--help").split())
