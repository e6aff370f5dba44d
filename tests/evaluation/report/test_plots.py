"""Pictures of an evaluation, and the record beside them."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clips4.data.class_names import load_classes
from clips4.data.label_maps import IGNORE
from clips4.data.segmentation_dataset import LabeledFolder, value_table
from clips4.evaluation.metrics.confusion import Tally, confusion_matrix, scores
from clips4.evaluation.record import describe_scores, image_records, provenance
from clips4.evaluation.report.plots import plot_confusion, plot_embedding, plot_worst_images, side_by_side
from clips4.outputs.tables import markdown
from clips4.utils.images import RGB
from tests.helpers import unit, write_images

CLASSES = load_classes("red,green,blue")


def labeled(root: Path, count: int) -> LabeledFolder:
    images = write_images(root, count)
    masks = []
    for index in range(count):
        truth = np.zeros((48, 64), np.uint8)
        truth[:, 8 * (index + 1) :] = 1
        truth[0] = IGNORE
        masks.append(root / f"{index}_truth.png")
        Image.fromarray(truth).save(masks[-1])
    return LabeledFolder(tuple(images), tuple(masks), CLASSES, value_table(range(3)))


def test_confusion_image_of_few_and_many_classes() -> None:
    few = np.array([[5, 1, 0, 2], [0, 7, 0, 0], [0, 0, 0, 0]])
    sheets = [plot_confusion(few, CLASSES.names, "three")]
    many = np.random.default_rng(0).integers(0, 9, (150, 151))
    sheets.append(plot_confusion(many, [f"class {n}" for n in range(150)], "many"))
    for sheet in sheets:
        with Image.open(BytesIO(sheet)) as image:
            assert image.width > 400


def test_worst_come_first(tmp_path: Path) -> None:
    dataset = labeled(tmp_path, 4)

    def predict(image: RGB, size: tuple[int, ...]) -> np.ndarray:
        return np.zeros(size, np.int64)

    confusions = Tally(3)
    for i in range(4):
        confusions.add(confusion_matrix(dataset.truth(i), np.zeros((48, 64), np.uint8), 3))
    written = plot_worst_images(dataset, confusions.images, predict, count=2)
    own = [image.miou for image in confusions.images]
    assert list(written) == [
        f"worst{rank:02d}_{dataset.images[index].stem}.png" for rank, index in enumerate(np.argsort(own)[:2], 1)
    ]


def test_truth_and_prediction_side_by_side_hide_what_is_not_scored(tmp_path: Path) -> None:
    image = np.full((40, 50, 3), 100, np.uint8)
    truth = np.zeros((40, 50), np.uint8)
    truth[:20] = IGNORE
    sheet = side_by_side(image, truth, np.ones((40, 50), int), CLASSES.names, "head")
    panels = sheet[26:66, :150]
    assert np.array_equal(panels[:, :50], image)
    assert np.array_equal(panels[:18, 50:100], panels[:18, 100:150]), "both grey where the truth is ignored"
    assert not np.array_equal(panels[25:, 50:100], panels[25:, 100:150])


def test_plot_embedding_is_a_wide_image() -> None:
    labels = np.repeat(np.arange(3), 8)
    pixels = unit(24, 5, dtype=torch.float32)
    sheet = plot_embedding(unit(3, 5, seed=1), pixels, -pixels, labels, CLASSES.names)
    with Image.open(BytesIO(sheet)) as image:
        assert image.width > 600


def test_records_hold_what_a_score_depends_on() -> None:
    confusion = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]])
    record = describe_scores(scores(confusion), CLASSES.names, frozenset({"blue"}))
    assert (record["miou_known"], record["miou_unknown"]) == (0.75, 0.0)
    assert (record["classes_in_truth"], record["classes_only_predicted"]) == (2, 1)
    assert json.loads(json.dumps(record["per_class"]))[2] == {
        "name": "blue",
        "iou": 0.0,
        "in_truth": True,
        "known": False,
    }
    found = provenance()
    assert {"commit", "versions", "command", "machine"} == set(found)
    images = Tally(3)
    for counts in (confusion, np.zeros((3, 4), np.int64)):
        images.add(counts)
    assert image_records(["a", "b"], images.images)[1]["miou_present"] is None


def test_markdown_of_rows_is_a_table() -> None:
    table = markdown({"a": {"x": 0.5}, "b": {"x": 1.0, "y": None}}, {"x": "X", "y": "Y"})
    assert table.splitlines() == ["| | X | Y |", "|---|---:|---:|", "| a | 50.00 | - |", "| b | 100.00 | - |"]
