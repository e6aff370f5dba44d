"""Language-driven scores, and the traps of the protocol."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.data.labelled import LabelledFolder
from clips4.data.labels import IGNORE
from clips4.evaluation.language import score_language
from clips4.evaluation.protocols import class_file_hash
from clips4.segmenter import Segmenter
from clips4.vocabulary import ClassList, load_classes

CLASSES = load_classes("red,green,blue")


def colour_of_pixels(images: Tensor) -> Tensor:
    """A network that sees nothing but colour: (B, 3, H, W) -> (B, 3, H / 2, W / 2) unit along colour."""
    small = torch.nn.functional.avg_pool2d(images, 2)
    return torch.nn.functional.normalize(small, dim=1)


def dataset(root: Path, truth: NDArray[np.uint8], shown: NDArray[np.uint8], classes: ClassList) -> LabelledFolder:
    """One picture with pure colours, and its label map."""
    Image.fromarray((np.eye(3, dtype=np.uint8) * 255)[shown]).save(root / "a.png")
    Image.fromarray(truth).save(root / "a_labels.png")
    table = np.full(256, IGNORE, np.uint8)
    table[:3] = range(3)
    return LabelledFolder((root / "a.png",), (root / "a_labels.png",), classes, table)


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter(colour_of_pixels, TeacherConfig(), 64, torch.device("cpu"))


def halves(left: int, right: int) -> NDArray[np.uint8]:
    labels = np.full((40, 48), left, np.uint8)
    labels[:, 24:] = right
    return labels


def test_a_perfect_answer(segmenter: Segmenter, tmp_path: Path) -> None:
    labels = halves(0, 1)
    result = score_language(segmenter, dataset(tmp_path, labels, labels, CLASSES), {"eye": torch.eye(3)})["eye"]
    assert result.miou_present == result.pixel_accuracy == result.miou == 1
    assert result.present.tolist() == [True, True, False]


def test_several_vectors_in_one_pass_and_a_hand_calculation(segmenter: Segmenter, tmp_path: Path) -> None:
    labels = halves(0, 1)
    swapped = torch.eye(3)[[2, 1, 0]]  # red is called blue
    found = score_language(
        segmenter, dataset(tmp_path, labels, labels, CLASSES), {"eye": torch.eye(3), "swapped": swapped}
    )
    assert found["eye"].pixel_accuracy == 1
    assert found["swapped"].pixel_accuracy == 0.5
    assert found["swapped"].iou[[0, 1]].tolist() == [0, 1]
    assert found["swapped"].miou_present == 0.5
    assert found["swapped"].miou == pytest.approx(1 / 3), "blue is predicted, though the truth has none"


def test_ignored_pixels_leave_intersection_and_union(segmenter: Segmenter, tmp_path: Path) -> None:
    truth = halves(0, IGNORE)
    result = score_language(segmenter, dataset(tmp_path, truth, halves(0, 1), CLASSES), {"eye": torch.eye(3)})["eye"]
    assert result.pixels == 40 * 24
    assert result.miou == 1, "green answers on ignored pixels count for nothing"


def test_the_truth_is_never_resized(segmenter: Segmenter, tmp_path: Path) -> None:
    truth = halves(0, 1)
    truth[::7, 3] = 2  # single pixels would vanish in a resized truth
    result = score_language(segmenter, dataset(tmp_path, truth, halves(0, 1), CLASSES), {"eye": torch.eye(3)})["eye"]
    assert result.pixels == truth.size
    assert result.present.tolist() == [True, True, True]


def test_fingerprints_of_class_lists() -> None:
    assert class_file_hash(CLASSES) == class_file_hash(load_classes("red,green,blue"))
    assert class_file_hash(CLASSES) != class_file_hash(load_classes("red,blue,green"))
    assert class_file_hash(CLASSES) != class_file_hash(load_classes(["red: crimson", "green", "blue"]))
