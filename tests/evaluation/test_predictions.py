"""clips4 score semantic: saved label PNGs against truth; torchmetrics as oracle."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from clips4.data.label_maps import IGNORE
from clips4.errors import UserError
from clips4.evaluation.metrics.boundary_f import boundary_f
from clips4.evaluation.metrics.confusion import confusion_matrix, scores
from clips4.evaluation.predictions import folder_truth, score_semantic
from clips4.evaluation.record import describe_semantic
from tests.reference import davis as literal


def save(folder: Path, values: Mapping[str, NDArray[np.integer]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, labels in values.items():
        Image.fromarray(labels).save(folder / f"{name}.png")
    return folder


def random_maps(seed: int, count: int = 3, classes: int = 4) -> dict[str, NDArray[np.uint8]]:
    draw = np.random.default_rng(seed)
    maps = {}
    for index in range(count):
        coarse = Image.fromarray(draw.integers(0, classes, (5, 6)).astype(np.uint8))
        maps[f"p{index}"] = np.array(coarse.resize((40, 30), Image.Resampling.NEAREST))
    return maps


def with_void(maps: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
    for labels in maps.values():
        labels[:3] = IGNORE
    return maps


def test_score_semantic_small_maps_equal_scores_by_hand(tmp_path: Path) -> None:
    truth = save(tmp_path / "gt", {"a": np.array([[0, 0, 1, 255]], np.uint8), "b": np.array([[1, 1]], np.uint8)})
    pred = save(tmp_path / "pred", {"a": np.array([[0, 1, 1, 0]], np.uint8), "b": np.array([[1, 255]], np.uint8)})
    result = score_semantic(folder_truth(truth, 2), pred)
    assert result.confusion.tolist() == [[1, 1, 0], [0, 2, 1]]
    assert result.scores.iou.tolist() == [1 / 2, 2 / 4]
    assert result.scores.pixel_accuracy == 3 / 5
    assert result.scores.mean_accuracy == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_scores_of_random_maps_equal_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed: the oracle is not asked")
    functional = metrics.functional
    truths, predictions = with_void(random_maps(0)), random_maps(1)
    total = sum((confusion_matrix(truths[name], predictions[name], 4) for name in truths), np.zeros((4, 5), np.int64))
    true, predicted = (
        torch.from_numpy(np.concatenate([maps[name].ravel() for name in truths]).astype(np.int64))
        for maps in (truths, predictions)
    )
    options = {"num_classes": 4, "ignore_index": IGNORE}
    oracle = functional.classification.multiclass_confusion_matrix(predicted, true, **options)
    assert np.array_equal(total[:, :4], oracle.numpy())
    found = scores(total)
    jaccard = functional.classification.multiclass_jaccard_index(predicted, true, average=None, **options)
    np.testing.assert_allclose(found.iou, jaccard.numpy(), atol=1e-6)
    accuracy = functional.classification.multiclass_accuracy(predicted, true, average="micro", **options)
    assert found.pixel_accuracy == pytest.approx(float(accuracy), abs=1e-6)
    mean = functional.classification.multiclass_accuracy(predicted, true, average="macro", **options)
    assert found.mean_accuracy == pytest.approx(float(mean), abs=1e-6)


def test_processes_do_not_change_a_digit(tmp_path: Path) -> None:
    truth, pred = save(tmp_path / "gt", with_void(random_maps(0))), save(tmp_path / "pred", random_maps(1))
    one, two = (score_semantic(folder_truth(truth, 4), pred, workers=n) for n in (1, 2))
    assert describe_semantic(one, "abcd") == describe_semantic(two, "abcd")


def test_sixteen_bits_and_values_that_are_no_class(tmp_path: Path) -> None:
    truth = save(tmp_path / "gt", {"a": np.array([[0, 1, 2]], np.uint8)})
    pred = save(tmp_path / "pred", {"a": np.array([[0, 40_000, 2]], np.uint16)})
    assert score_semantic(folder_truth(truth, 3), pred, False).scores.pixel_accuracy == pytest.approx(2 / 3)


def test_reducing_the_zero_label(tmp_path: Path) -> None:
    truth = save(tmp_path / "gt", {"a": np.array([[0, 1, 2]], np.uint8)})
    pred = save(tmp_path / "pred", {"a": np.array([[1, 0, 1]], np.uint8)})
    result = score_semantic(folder_truth(truth, 2, reduce_zero=True), pred, False)
    assert result.scores.pixel_accuracy == 1
    assert result.scores.pixels == 2


def test_what_cannot_be_scored_raises(tmp_path: Path) -> None:
    truth = save(tmp_path / "gt", random_maps(0))
    pred = save(tmp_path / "pred", random_maps(1, count=2))
    with pytest.raises(UserError, match=r"1 of 3 files are missing, the first p2; predictions have the"):
        score_semantic(folder_truth(truth, 4), pred)
    save(pred, {"p2": np.zeros((3, 4), np.uint8)})
    with pytest.raises(UserError, match="4 x 3 pixels, the truth has 40 x 30"):
        score_semantic(folder_truth(truth, 4), pred)
    save(pred, {"p2": np.zeros((30, 40, 3), np.uint8)})
    with pytest.raises(UserError, match="an RGB image"):
        score_semantic(folder_truth(truth, 4), pred)
    save(pred, {"p2": np.zeros((30, 40), np.uint8), "p9": np.zeros((30, 40), np.uint8)})
    with pytest.raises(UserError, match="is this the right set"):
        score_semantic(folder_truth(truth, 3), pred)
    assert score_semantic(folder_truth(truth, 4), pred).extra == 1
    with pytest.raises(UserError, match="no PNG, TIFF or NPY there"):
        score_semantic(folder_truth(truth, 4), tmp_path / "no")
    with pytest.raises(UserError, match="no PNG, TIFF or NPY there"):
        folder_truth(tmp_path / "no", 4)


@pytest.mark.parametrize(
    ("truth", "pred"),
    [
        (("a/0001.png", "b/0001.png"), ("a/0001.png", "b/0001.png")),
        (("a/0001.PNG", "b/c/0001.png"), ("b/c/0001.PNG", "a/0001.png")),
        (("0.png", "1.png"), ("0.png", "1.png", "panoptic/0.png", "yolo/images/0.png", "0_overlay.png")),
    ],
)
def test_score_semantic_equal_names_are_distinguished_by_their_folders(
    tmp_path: Path, truth: tuple[str, ...], pred: tuple[str, ...]
) -> None:
    maps = list(random_maps(5).values())
    order = {Path(name).with_suffix(""): number for number, name in enumerate(truth)}
    for root, names in (("gt", truth), ("pred", pred)):
        for name in names:
            (tmp_path / root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(maps[order.get(Path(name).with_suffix(""), 2)]).save(tmp_path / root / name)
    result = score_semantic(folder_truth(tmp_path / "gt", 4), tmp_path / "pred", False)
    assert result.scores.miou == 1
    assert len(result.names) == len(set(result.names)) == 2
    assert result.extra == len(pred) - 2


def test_score_semantic_endings_pair_files_of_other_conventions(tmp_path: Path) -> None:
    maps = list(random_maps(6).values())
    for number, name in enumerate(("ulm/ulm_0", "bonn/bonn_0")):
        for root, ending in (("gt", "_gtFine_labelTrainIds"), ("gt", "_gtFine_color"), ("pred", "_leftImg8bit")):
            path = tmp_path / root / f"{name}{ending}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(maps[number if "color" not in ending else 2]).save(path)
    truth = folder_truth(tmp_path / "gt", 4, ending="_gtFine_labelTrainIds.png")
    result = score_semantic(truth, tmp_path / "pred", False, ending="_leftImg8bit.png")
    assert (result.scores.miou, result.names) == (1, ("bonn/bonn_0", "ulm/ulm_0"))
    with pytest.raises(UserError, match=r"2 of 2 files are missing, the first bonn/bonn_0.*--pred-ending"):
        score_semantic(truth, tmp_path / "pred", False)
    with pytest.raises(UserError, match=r"no \*_labelIds\.png there"):
        folder_truth(tmp_path / "gt", 4, ending="_labelIds.png")


# -------------------------------------------------------------------------------------------------------- boundary F


def test_boundary_f_is_the_mean_over_classes_of_their_outlines() -> None:
    truth, prediction = random_maps(3)["p0"], random_maps(4)["p0"]
    seen = sorted(set(np.unique(truth)) | set(np.unique(prediction)))
    expected = np.mean([literal.f_measure(truth == label, prediction == label, 0.0075) for label in seen])
    assert boundary_f(truth, prediction, 4) == pytest.approx(expected)
    assert boundary_f(truth, truth, 4) == 1


def test_boundary_f_leaves_ignored_pixels_to_no_class() -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[:, 10:] = IGNORE
    prediction = np.zeros((20, 20), np.uint8)
    prediction[:, 12:] = 1
    assert boundary_f(truth, prediction, 2) == 1, "what is drawn on ignored pixels is no outline"
    assert boundary_f(np.full((4, 4), IGNORE, np.uint8), prediction[:4, :4], 2) is None


def test_boundary_f_falls_as_outlines_move() -> None:
    truth = np.zeros((200, 200), np.uint8)
    truth[50:150, 50:150] = 1
    moved = [boundary_f(truth, np.roll(truth, shift, 1), 2) for shift in (0, 2, 6, 30)]
    assert moved[0] == 1
    assert all(a is not None and b is not None and a >= b for a, b in pairwise(moved))
    assert moved[1] == 1, "2 of 283 pixels of diagonal lie within 0.75 %"
    assert moved[3] is not None
    assert moved[3] < 0.7


@pytest.mark.parametrize("classes", [256, 300, 1000])
def test_score_semantic_more_than_255_classes(tmp_path: Path, classes: int) -> None:
    """255 is a class then, and 65535 is ignored in the truth and no class in a prediction."""
    truth = save(tmp_path / "gt", {"a": np.array([[0, 255, classes - 1, 65535]], np.uint16)})
    pred = save(tmp_path / "pred", {"a": np.array([[0, 255, 65535, 1]], np.uint16)})
    result = score_semantic(folder_truth(truth, classes), pred)
    counts = result.confusion
    assert (counts[0, 0], counts[255, 255], counts[classes - 1, classes], counts.sum()) == (1, 1, 1, 3)
    assert result.boundary_f is not None


@pytest.mark.parametrize("ignored", [255, 65535])
def test_score_semantic_16_bit_truth_ignores_either_value(tmp_path: Path, ignored: int) -> None:
    truth = save(tmp_path / "gt", {"a": np.array([[0, 1, ignored, ignored]], np.uint16)})
    pred = save(tmp_path / "pred", {"a": np.array([[0, 0, 1, 1]], np.uint8)})
    assert score_semantic(folder_truth(truth, 2), pred).confusion.tolist() == [[1, 0, 0], [1, 0, 0]]
    reduced = save(tmp_path / "reduced", {"a": np.array([[1, 2, ignored, 0]], np.uint16)})
    assert score_semantic(folder_truth(reduced, 2, reduce_zero=True), pred).confusion.tolist() == [[1, 0, 0], [1, 0, 0]]


def test_score_semantic_8_bit_255_of_many_classes_raises(tmp_path: Path) -> None:
    truth = save(tmp_path / "gt", {"a": np.array([[0, 255]], np.uint8)})
    with pytest.raises(UserError, match="may be class 255 or an ignored pixel"):
        score_semantic(folder_truth(truth, 300), truth)


def test_score_semantic_formats_may_differ(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2, 255]], np.uint8)
    truth = save(tmp_path / "gt", dict.fromkeys("abc", labels))
    pred = tmp_path / "pred"
    pred.mkdir()
    np.save(pred / "a.npy", labels.astype(np.int64))
    Image.fromarray(labels.astype(np.float32)).save(pred / "b.tif")
    Image.fromarray(labels).save(pred / "c.png")
    assert score_semantic(folder_truth(truth, 3), pred).scores.miou == 1


def test_score_semantic_truth_is_turned_to_predictions_as_displayed(tmp_path: Path) -> None:
    mask = (np.arange(48).reshape(6, 8) % 5 == 0).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    truth = folder_truth(save(tmp_path / "gt", {"a": mask}), 2)
    for prediction in (mask, np.ascontiguousarray(np.rot90(mask, -1))):
        pred = save(tmp_path / "pred", {"a": prediction})
        known = replace(truth, images=(tmp_path / "a.jpg",))
        assert score_semantic(known, pred).scores.pixel_accuracy == 1
    with pytest.raises(UserError, match="does EXIF turn the image"):
        score_semantic(truth, pred)
