"""`train --labels`: a few labeled images make the prototypes of their classes."""

import json
from pathlib import Path

import pytest
import torch

from clips4.annotations.folder import open_labels
from clips4.cli.app import app
from clips4.cli.shell import run
from clips4.config import load_config
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.inference.segmenter import Segmenter
from clips4.method.labeled_prototypes import labeled_prototypes
from clips4.models.checkpoint import load_checkpoint
from clips4.training.loop import train
from tests.annotations.test_folder import write_masks
from tests.helpers import TINY

CLASSES = load_classes("cat,cup,grass")


def test_train_with_labels_has_their_prototypes_in_both_spaces(images: Path, tiny_run: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    write_masks(labels)
    labeled = open_labels(labels, CLASSES)
    paths, config = sorted(images.iterdir()), load_config("cpu", TINY)
    train(paths, CLASSES, config, tmp_path / "run", device="cpu", report=False, labels=labeled)
    plain, found = load_checkpoint(tiny_run).prototypes, load_checkpoint(tmp_path / "run").prototypes
    assert torch.equal(plain.known[2], found.known[2]), "grass has no label"
    assert not torch.equal(plain.known[:2], found.known[:2])
    teacher = Segmenter.from_teacher("conse", config, "cpu", space=found.space)
    of_teacher = labeled_prototypes(teacher.embed, labeled)
    of_student = labeled_prototypes(Segmenter.load(tmp_path / "run", "cpu").embed, labeled)
    for label in (0, 1):
        assert float(found.known[label] @ of_teacher[label]) > 0.999, "maps are kept in half precision"
        torch.testing.assert_close(found.query_known[label], of_student[label], rtol=0, atol=1e-4)
    with pytest.raises(UserError, match="other labeled images, or none"):
        train(paths, CLASSES, config, tmp_path / "run", resume=True, device="cpu")


def test_train_command_with_labels_reports_their_score(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, out = tmp_path / "labels", tmp_path / "run"
    labels.mkdir()
    write_masks(labels)
    overrides = [part for each in TINY for part in ("--set", each)]
    arguments = ["train", images, "--classes", "cat,cup,grass", "--out", out, "--preset", "cpu", "--labels", labels]
    code = run(app, [*map(str, arguments), "--no-report", "--json", "--device", "cpu", *overrides])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    record = json.loads(printed.out)["labeled"]
    assert record["row"] == "prototypes"
    assert [each["name"] for each in record["per_class"]] == ["cat", "cup", "grass"]
    assert f"mIoU {100 * record['miou_present']:.1f} %" in printed.err
