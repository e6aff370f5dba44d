"""Class vectors from labeled images."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from clips4.annotations.folder import open_labels
from clips4.cli.app import main
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.inference.examples import example_vectors
from clips4.inference.segmenter import Segmenter
from tests.annotations.test_folder import EXPECTED, write_coco, write_cvat, write_labelme, write_masks


def test_example_vectors_are_means_over_labeled_pixels(tiny_run: Path, tmp_path: Path) -> None:
    write_masks(tmp_path)
    segmenter = Segmenter.load(tiny_run, "cpu")
    labeled = open_labels(tmp_path)
    found = example_vectors(segmenter, labeled)
    z = segmenter.embed(labeled.images[0])
    height, width = EXPECTED.shape
    rows, columns = height // z.shape[1], width // z.shape[2]
    assert (rows * z.shape[1], columns * z.shape[2]) == (height, width), "every position covers whole pixels"
    assert list(found) == ["cat", "cup"]
    for label, name in enumerate(found):
        places = np.argwhere(label == EXPECTED)
        mean = torch.stack([z[:, row // rows, column // columns] for row, column in places.tolist()]).mean(0)
        torch.testing.assert_close(found[name], F.normalize(mean, dim=0))


def test_examples_replace_prototypes_of_their_classes_alone(tiny_run: Path, tmp_path: Path) -> None:
    write_masks(tmp_path)
    segmenter = Segmenter.load(tiny_run, "cpu")
    before = segmenter.query()
    segmenter.classifier.examples = example_vectors(segmenter, open_labels(tmp_path, load_classes("cat,CUP")))
    after = segmenter.query()
    assert after.sources == ("examples", "examples", "prototype")
    assert torch.equal(before.vectors[2], after.vectors[2])
    assert not torch.equal(before.vectors[:2], after.vectors[:2])
    assert torch.equal(
        segmenter.query(vectors="text").vectors, Segmenter.load(tiny_run, "cpu").query(vectors="text").vectors
    )


def test_example_vectors_without_a_labeled_pixel_or_of_other_values_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    write_masks(tmp_path)
    segmenter = Segmenter.load(tiny_run, "cpu")
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(UserError, match=r"A\.png: a value that is none of the 1 classes"):
        example_vectors(segmenter, open_labels(tmp_path))
    Image.fromarray(np.full_like(EXPECTED, 255)).save(tmp_path / "A.png")
    with pytest.raises(UserError, match="no pixel has a class"):
        example_vectors(segmenter, open_labels(tmp_path))


@pytest.mark.parametrize("write", [write_labelme, write_cvat, write_coco])
def test_segment_examples_and_evaluate_labels_read_every_format(
    write: Callable[[Path], None],
    tiny_run: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels, out, record = tmp_path / "labels", tmp_path / "out", tmp_path / "record.json"
    labels.mkdir()
    write(labels)

    def run(*arguments: str | Path, code: int = 0) -> None:
        monkeypatch.setattr(sys, "argv", ["clips4", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert (stopped.value.code or 0) == code

    run("segment", tiny_run, images, "--examples", labels, "--out", out, "--save", "json", "--device", "cpu")
    assert "1 labeled image with examples of cat, cup" in capsys.readouterr().err
    (described, *_) = (json.loads(path.read_text()) for path in out.glob("*.json"))
    assert described["sources"] == {"cat": "examples", "cup": "examples"}

    run("segment", tiny_run, images, "--examples", labels, "--vectors", "text", "--out", out, code=2)
    assert "leave one out" in capsys.readouterr().err

    run("evaluate", "labels", tiny_run, "--labels", labels, "--examples", labels, "--record", record, "--device", "cpu")
    written = json.loads(record.read_text())
    assert [row["row"] for row in written["rows"]] == ["prototypes", "examples"]
    assert written["rows"][0]["pixels"] == int((EXPECTED < 255).sum())
    assert [each["name"] for each in written["rows"][0]["per_class"]] == ["cat", "cup", "grass"]
    assert written["rows"][1]["miou_present"] >= written["rows"][0]["miou_present"]
    assert "| examples |" in capsys.readouterr().out
