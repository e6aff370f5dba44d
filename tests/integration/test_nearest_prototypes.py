"""``prototypes.per_class=nearest`` from the command line: training, segmenting, and what equals the mean."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clips4.cli.app import app
from clips4.cli.shell import run as run_command
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import load_checkpoint
from clips4.training.precompute import FOLDER, VECTORS
from clips4.training.quality.report import read_quality
from clips4.utils.images import load_rgb
from clips4.utils.tensors import read_tensors
from tests.helpers import TINY

pytestmark = pytest.mark.slow  # trains by the command line


def train(images: Path, out: Path, *settings: str, preset: str = "cpu", report: bool = False) -> Path:
    overrides = [part for each in (*TINY, *settings) for part in ("--set", each)]
    arguments = ["train", images, "--classes", "cat,cup,grass", "--out", out, "--preset", preset, "--device", "cpu"]
    assert run_command(app, [*map(str, arguments), *([] if report else ["--no-report"]), *overrides]) == 0
    return out


def test_trained_run_keeps_the_segments_of_each_class_and_resumes(images: Path, tmp_path: Path) -> None:
    run = train(images, tmp_path / "run", "prototypes.per_class=nearest", "prototypes.m=3")
    found = load_checkpoint(run).prototypes
    assert (found.known.shape, found.per_class) == ((9, 384), "nearest")
    assert found.fitted is not None
    assert found.fitted.shape == (11, 384)
    torch.testing.assert_close(found.queries().norm(dim=1), torch.ones(11))
    assert found.known.unique(dim=0).shape[0] > 3, "different segments"
    out = tmp_path / "segmented"
    arguments = ["segment", run, images, "--classes", "cat,zebra", "--out", out, "--save", "json"]
    assert run_command(app, [*map(str, arguments), "--device", "cpu"]) == 0
    facts = json.loads((out / "photo0.json").read_text("utf-8"))
    assert facts["sources"] == {"cat": "prototype", "zebra": "bank"}
    result = Segmenter.load(run, "cpu").segment(load_rgb(images / "photo0.png"), unknown=False)
    assert np.array_equal(result.probabilities().argmax(0), result.labels)
    before = read_tensors(run / FOLDER / VECTORS)["known"]
    resumed = ["train", images, "--classes", "cat,cup,grass", "--out", run, "--resume", "--no-report"]
    assert run_command(app, [*map(str, resumed), "--device", "cpu"]) == 0
    assert torch.equal(load_checkpoint(run).prototypes.known, before)


def test_student_of_one_segment_per_class_equals_that_of_their_mean(images: Path, tmp_path: Path) -> None:
    settings = ("prototypes.m=1", "extensions.unknown_apart=true")
    mean, nearest = (
        load_checkpoint(train(images, tmp_path / each, *settings, f"prototypes.per_class={each}"))
        for each in ("mean", "nearest")
    )
    for name, weights in mean.student.state_dict().items():
        assert torch.equal(nearest.student.state_dict()[name], weights), name
    assert torch.equal(nearest.prototypes.all(), mean.prototypes.all())
    torch.testing.assert_close(nearest.prototypes.queries(), mean.prototypes.queries(), rtol=0, atol=2e-3)


def test_run_with_a_report_and_fitted_unknown_prototypes_is_measured_by_class(images: Path, tmp_path: Path) -> None:
    settings = ("prototypes.per_class=nearest", "prototypes.m=3", "data.inference_side=96")
    run = train(images, tmp_path / "run", *settings, preset="few-names", report=True)
    quality = read_quality(run)
    assert quality is not None
    assert quality.agreement is not None
    assert 0 <= quality.agreement <= 1
    assert set(quality.never) <= {"cat", "cup", "grass"}
    assert (run / "report.html").is_file()
