"""Commands as a user types them, in their own processes where exit codes and streams matter."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips4.cli.app import main
from clips4.models.checkpoint import load_checkpoint
from tests.data.benchmarks import training_sets
from tests.helpers import TINY, photograph, write_broken_images, write_odd_images

SETTINGS = ["--preset", "cpu", "--no-report", *(part for setting in TINY for part in ("--set", setting))]


def clips4(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clips4", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


Fails = Callable[..., str]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run in this process a command that must fail with a user error; return its one-line message."""

    def run(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["clips4", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        assert stopped.value.code == 2, captured
        # notes of what was done before may come first
        *notes, line = captured.err.splitlines()
        assert line.startswith("clips4: "), captured
        assert not [note for note in notes if note.startswith(("clips4: ", "Traceback"))], captured
        return line

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "r"], "give IMAGES and --classes NAMES, or --dataset NAME --root DIR"),
        (["photos", "--out", "r"], "give IMAGES and --classes NAMES"),
        (["--dataset", "voc20", "--out", "r"], "--dataset takes its images from --root DIR"),
        (["photos", "--classes", "cat", "--fold", "1", "--out", "r"], "--root, --split and --fold belong to --dataset"),
        (["--dataset", "voc20", "--root", ".", "--fold", "0", "--classes", "a", "--out", "r"], "leave out --classes"),
        (["--dataset", "camvid11", "--root", ".", "--fold", "0", "--out", "r"], "trainannot: no label map"),
    ],
)
def test_train_needs_images_and_names_or_a_set(fails: Fails, arguments: list[str], message: str) -> None:
    assert message in fails("train", *arguments)


def test_train_on_a_published_set_leaves_a_folds_names_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "sets", tmp_path / "run"
    training_sets.voc(root)
    given = ["--dataset", "voc20", "--root", root, "--split", "trainaug", "--fold", "2", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["clips4", "train", *map(str, given), "--out", str(out), *SETTINGS])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert "Trained on 5 images (0 skipped)" in capsys.readouterr().out
    names = load_checkpoint(out).prototypes.names
    assert len(names) == 15
    assert "cat" not in names


def test_help_lists_commands_with_examples() -> None:
    text = clips4("--help").stdout
    for command in ("demo", "train", "segment", "regions", "doctor"):
        assert command in text
        assert f"clips4 {command}" in clips4(command, "--help").stdout


def test_version_option_prints_version() -> None:
    from clips4 import __version__

    assert clips4("--version").stdout == f"clips4 {__version__}\n"


@pytest.mark.parametrize("given", [None, "active"])
def test_threads_wait_without_spinning_unless_the_user_chose(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr("sys.argv", ["clips4", "--version"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert os.environ["OMP_WAIT_POLICY"] == (given or "passive")


def test_doctor_prints_text_or_json() -> None:
    report = json.loads(clips4("doctor", "--json").stdout)
    assert report["packages"]["torch"]
    assert report["missing"] == {}
    assert "Nothing is missing" in clips4("doctor").stdout


def test_train_and_segment_mixed_folder_skips_broken_images(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    odd, broken = write_odd_images(folder), write_broken_images(folder)
    (folder / "notes.txt").write_text("not looked at")

    trained = clips4("train", folder, "--classes", "cat,cup", "--out", tmp_path / "run", "--device", "cpu", *SETTINGS)
    assert trained.returncode == 0, trained.stderr
    assert "Trained on 4 images (4 skipped), 2 steps" in trained.stdout
    for path in (*broken.values(), odd["dot.png"]):
        assert f"skipped: {path}: " in trained.stderr

    out = tmp_path / "out"
    done = clips4("segment", tmp_path / "run", folder, "--out", out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "Segmented 5 images (3 skipped)" in done.stdout
    for path in broken.values():
        assert f"skipped: {path}: " in done.stderr
    for path in odd.values():
        with Image.open(out / f"{path.stem}.png") as labels:
            assert labels.mode == "P"
            shown = {"dot": (1, 1), "turned": (72, 96)}.get(path.stem, (96, 72))
            assert labels.size == shown, path
        report = json.loads((out / f"{path.stem}.json").read_text())
        assert (report["width"], report["height"]) == shown
        assert sum(area["share"] for area in report["areas"]) == pytest.approx(1, abs=1e-4)
        with Image.open(out / f"{path.stem}_overlay.png") as overlay:
            assert overlay.width >= shown[0]
    assert not list(out.rglob("*.part")), "no half-written files stay"


@pytest.mark.slow
def test_train_without_a_preset_reports_what_auto_chose_and_resumes_by_itself(images: Path, tmp_path: Path) -> None:
    run, small = tmp_path / "run", ("data.long_side=96", "data.crop=64", "data.inference_side=96", "train.batch=2")
    command = ("train", images, "--classes", "cat,cup", "--out", run, "--device", "cpu")
    settings = [part for setting in small for part in ("--set", setting)]
    first = clips4(*command, *settings, "--set", "train.steps=2", "--set", "train.precision=32-true")
    assert first.returncode == 0, first.stderr
    assert "auto: preset recommended with" in first.stderr
    assert "extensions.head_scale=0.5" in first.stderr
    assert "train.batch=4" not in first.stderr, "given by --set"
    assert "Quality: doubtful: only 3 training images" in first.stderr
    assert "Student" in (run / "report.html").read_text(encoding="utf-8")
    assert load_checkpoint(run).config.extensions.residual
    again = clips4(*command, "--resume")
    assert again.returncode == 0, again.stderr
    assert "auto:" not in again.stderr
    assert "2 steps" in again.stdout


def test_segment_teacher_only_writes_png(tmp_path: Path) -> None:
    photograph().save(tmp_path / "a.png")
    command = (
        "segment",
        "--teacher-only",
        "conse",
        tmp_path / "a.png",
        "--classes",
        tmp_path / "names.json",
        "--out",
        tmp_path / "o",
    )
    (tmp_path / "names.json").write_text('{"names": {"4": "xqzt", "9": "cup"}}')
    done = clips4(*command, "--save", "png")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "2 classes: 4 xqzt; 9 cup. These ids are not label values, which count from 0 in this order",
        "clips4: words that the text model of conse does not know: 'xqzt'; check the spelling, or use others",
    ]
    assert [path.name for path in (tmp_path / "o").glob("[!.]*")] == ["a.png"]
    assert set(np.unique(np.array(Image.open(tmp_path / "o/a.png")))) <= {0, 1}


def test_user_error_prints_one_line(fails: Fails, tmp_path: Path, images: Path, tiny_run: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    run = ("--out", tmp_path / "run")
    assert "no image found" in fails("train", empty, "--classes", "cat", *run)
    assert "no such file or folder" in fails("train", tmp_path / "nowhere", "--classes", "cat", *run)
    assert "'cat' is listed twice" in fails("train", images, "--classes", "cat,dog,Cat", *run)
    assert "unknown teacher 'clop'; there is conse" in fails(
        "train", images, "--classes", "cat", "--teacher", "clop", *run
    )
    assert "did you mean train.steps?" in fails("train", images, "--classes", "cat", "--set", "train.step=3", *run)
    assert "unknown preset" in fails("train", images, "--classes", "cat", "--preset", "huge", *run)
    assert "already holds a run" in fails("train", images, "--classes", "cat", "--out", tiny_run)
    assert "device 'cuda:9'" in fails("segment", tiny_run, images, "--device", "cuda:9", "--out", tmp_path / "o")
    assert "device 'abacus'" in fails("train", images, "--classes", "cat", "--device", "abacus", *run)
    assert not (tmp_path / "run").exists(), "nothing is left behind"

    a_file = tmp_path / "file"
    a_file.touch()
    assert "is a file; give a folder" in fails("train", images, "--classes", "cat", "--out", a_file)
    assert "is a file; give a folder" in fails("segment", tiny_run, images, "--out", a_file)
    assert "input should be 'efficientnet-lite0', 'resnet50', 'resnet101' or 'dino'" in fails(
        "train", images, "--classes", "cat", "--set", "student.backbone=vgg", *run
    )

    out = ("--out", tmp_path / "out")
    assert "holds no checkpoint" in fails("segment", images, images, *out)
    assert "got only" in fails("segment", tiny_run, *out)
    assert "kind of output 'jpeg'" in fails("segment", tiny_run, images, "--save", "jpeg", *out)
    assert "would be overwritten" in fails("segment", tiny_run, images, "--out", images)
    assert "choose prototypes or text" in fails("segment", tiny_run, images, "--vectors", "words", *out)
    assert "unknown teacher" in fails("segment", "--teacher-only", "clop", images, "--classes", "cat", *out)
    assert "give --classes" in fails("segment", "--teacher-only", "conse", images, *out)
    assert not (tmp_path / "out").exists()


def test_regions_mixed_folder_skips_broken_images(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    odd, broken = write_odd_images(folder), write_broken_images(folder)
    options = ("--method", "gradient-ucm", "--count", "5", "--workers", "2", "--out", tmp_path / "out")
    done = clips4("regions", folder, *options, "--save", "png,overlay,page")
    assert done.returncode == 0, done.stderr
    assert "Regions of 5 images (3 skipped)" in done.stdout
    for path in broken.values():
        assert f"skipped: {path}: " in done.stderr
    for path in odd.values():
        with Image.open(tmp_path / f"out/{path.stem}.png") as labels:
            assert labels.mode.startswith("I")
            assert labels.size == {"dot": (1, 1), "turned": (72, 96)}.get(path.stem, (96, 72))
            assert set(np.unique(np.array(labels))) <= set(range(5))
    assert not list((tmp_path / "out").rglob("*.part"))


def test_regions_bad_options_print_one_line(fails: Fails, tmp_path: Path, images: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "regions.method = 'watershed'" in fails("regions", images, "--method", "watershed", *out)
    assert "give their folder with --edges" in fails("regions", images, "--method", "edges-ucm", *out)
    assert "no such folder of edge maps" in fails(
        "regions", images, "--method", "edges-ucm", "--edges", tmp_path / "none", *out
    )
    assert "--save 'jpeg'" in fails("regions", images, "--save", "jpeg", *out)
    assert "makes none" in fails("regions", images, "--save", "page", *out)
    assert not (tmp_path / "out").exists()
    edges = ("--method", "edges-ucm", "--edges", tmp_path)
    assert "none of 3 images could be read" in fails("regions", images, *edges, *out)


def test_only_broken_images_fails(fails: Fails, tmp_path: Path, tiny_run: Path) -> None:
    write_broken_images(tmp_path / "broken")
    line = fails("train", tmp_path / "broken", "--classes", "cat", "--out", tmp_path / "run")
    assert "none of 3 images can be used" in line
    line = fails("segment", tiny_run, tmp_path / "broken", "--out", tmp_path / "out")
    assert "none of 3 images could be read" in line


def test_missing_option_exits_with_2(images: Path) -> None:
    result = clips4("train", images)
    assert result.returncode == 2
    assert "--out" in result.stderr


def test_debug_flag_shows_traceback(tmp_path: Path) -> None:
    result = clips4("--debug", "train", tmp_path / "nowhere", "--classes", "cat", "--out", tmp_path / "run")
    assert "Traceback" in result.stderr
