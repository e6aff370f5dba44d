import math

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score

from clips4.data.label_maps import IGNORE
from clips4.evaluation.metrics.confusion import Tally, confusion_matrix, scores
from tests.helpers import provable, seeds

TRUTH = np.array([[0, 0, 1], [1, 2, IGNORE]])
PREDICTION = np.array([[0, 1, 1], [1, -1, 0]])
CONFUSION = [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]]


def random_labels(seed: int, classes: int = 5, missing: bool = True) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Truth with ignored pixels, prediction with unknown ones; the last class occurs in neither."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes - 1, (7, 9))
    prediction = np.where(rng.random((7, 9)) < 0.5, truth, rng.integers(0, classes - 1, (7, 9)))
    if missing:
        truth[rng.random((7, 9)) < 0.2] = IGNORE
        prediction[rng.random((7, 9)) < 0.1] = -1
    return truth, prediction


# ---------------------------------------------------------------------------------------------------------- counts


def test_confusion_matrix_of_a_small_image_counts_by_hand() -> None:
    assert confusion_matrix(TRUTH, PREDICTION, 3).tolist() == CONFUSION


@provable
@given(seeds)
def test_counts_equal_a_literal_loop(seed: int) -> None:
    truth, prediction = random_labels(seed)
    expected = np.zeros((5, 6), np.int64)
    for true, predicted in zip(truth.flat, prediction.flat, strict=True):
        if true != IGNORE:
            expected[true, predicted if 0 <= predicted < 5 else 5] += 1
    assert np.array_equal(confusion_matrix(truth, prediction, 5), expected)


def test_what_is_predicted_on_ignored_pixels_does_not_matter() -> None:
    truth, prediction = random_labels(0)
    other = np.where(truth == IGNORE, 3, prediction)
    assert np.array_equal(confusion_matrix(truth, prediction, 5), confusion_matrix(truth, other, 5))


@pytest.mark.parametrize("unknown", [-1, 3, 200, IGNORE, -100])
def test_any_value_that_is_no_class_counts_as_wrong(unknown: int) -> None:
    confusion = confusion_matrix(np.array([0, 1]), np.array([0, unknown]), 3)
    assert confusion.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_types_of_label_images(dtype: type[np.integer]) -> None:
    truth = np.array([0, 1, 149, IGNORE]).astype(dtype)
    prediction = np.array([0, 149, 149, 0]).astype(dtype)
    confusion = confusion_matrix(truth, prediction, 150)
    assert confusion.shape == (150, 151)
    assert confusion.sum() == 3
    assert confusion[0, 0] == confusion[1, 149] == confusion[149, 149] == 1


def test_matrices_of_images_add_up_to_that_of_the_set() -> None:
    pairs = [random_labels(seed) for seed in range(3)]
    added = sum(confusion_matrix(truth, prediction, 5) for truth, prediction in pairs)
    truths, predictions = (np.concatenate(labels) for labels in zip(*pairs, strict=True))
    assert np.array_equal(added, confusion_matrix(truths, predictions, 5))


def test_only_ignored_pixels_counts_nothing() -> None:
    assert confusion_matrix(np.full((2, 2), IGNORE), np.zeros((2, 2), np.int64), 3).sum() == 0


def test_sizes_that_differ_are_refused_with_both() -> None:
    with pytest.raises(ValueError, match=r"truth \(2, 3\) and prediction \(3, 2\) differ in size"):
        confusion_matrix(TRUTH, PREDICTION.T, 3)


@pytest.mark.parametrize("value", [3, 254, -1])
def test_truth_with_other_values_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=r"expected 0\.\.2 or 255"):
        confusion_matrix(np.array([0, value]), np.array([0, 0]), 3)


# ---------------------------------------------------------------------------------------------------------- scores


def test_scores_of_a_small_matrix_equal_those_by_hand() -> None:
    result = scores(np.array(CONFUSION))
    assert result.iou.tolist() == [1 / 2, 2 / 3, 0]
    assert result.miou == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert result.miou_present == pytest.approx(result.miou)
    assert result.pixel_accuracy == pytest.approx(3 / 5)
    assert result.mean_accuracy == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert result.pixels == 5


def test_class_in_neither_truth_nor_prediction_is_left_out() -> None:
    result = scores(confusion_matrix(np.array([0, 0, 1]), np.array([0, 0, 1]), 4))
    assert result.miou == result.miou_present == result.mean_accuracy == result.pixel_accuracy == 1
    assert np.isnan(result.iou).tolist() == [False, False, True, True]
    assert result.present.tolist() == [True, True, False, False]


def test_class_only_predicted_costs_miou_but_not_that_of_the_truths_classes() -> None:
    result = scores(confusion_matrix(np.array([0, 0, 0, 1]), np.array([0, 0, 2, 1]), 3))
    assert result.iou.tolist() == [2 / 3, 1, 0]
    assert result.miou == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert result.miou_present == pytest.approx((2 / 3 + 1) / 2)


def test_unknown_predictions_lower_every_score() -> None:
    truth = np.array([0, 0, 1, 1])
    right, unsure = (scores(confusion_matrix(truth, p, 2)) for p in (truth, np.array([0, -1, 1, -1])))
    assert (right.miou, right.pixel_accuracy) == (1, 1)
    assert (unsure.miou, unsure.pixel_accuracy, unsure.mean_accuracy) == (0.5, 0.5, 0.5)


@provable
@given(seeds)
def test_iou_equals_that_of_scikit_learn(seed: int) -> None:
    truth, prediction = random_labels(seed)
    counted = truth != IGNORE
    true, predicted = truth[counted], prediction[counted]
    result = scores(confusion_matrix(truth, prediction, 5))
    expected = jaccard_score(true, predicted, labels=range(5), average=None, zero_division=0)
    occurs = np.isin(range(5), np.concatenate([true, predicted]))
    assert np.array_equal(~np.isnan(result.iou), occurs)
    np.testing.assert_allclose(result.iou[occurs], expected[occurs], atol=1e-12)
    assert result.miou == pytest.approx(expected[occurs].mean())
    assert result.pixel_accuracy == pytest.approx(accuracy_score(true, predicted))


def test_mean_accuracy_equals_that_of_scikit_learn() -> None:
    truth, prediction = random_labels(1, missing=False)
    result = scores(confusion_matrix(truth, prediction, 5))
    assert result.mean_accuracy == pytest.approx(balanced_accuracy_score(truth.ravel(), prediction.ravel()))


@provable
@given(seeds)
def test_scores_do_not_depend_on_the_order_of_classes(seed: int) -> None:
    truth, prediction = random_labels(seed)
    order = np.random.default_rng(seed).permutation(5)
    table = np.full(256, IGNORE)
    table[:5] = order
    renamed = scores(confusion_matrix(table[truth], np.where(prediction < 0, -1, table[prediction]), 5))
    plain = scores(confusion_matrix(truth, prediction, 5))
    np.testing.assert_allclose(renamed.iou[order], plain.iou)
    assert renamed.miou == pytest.approx(plain.miou)


def test_miou_comes_from_one_matrix_not_from_a_mean_over_images() -> None:
    images = [(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])), (np.array([1, 1]), np.array([1, 1]))]
    together = scores(sum((confusion_matrix(t, p, 2) for t, p in images), np.zeros((2, 3), np.int64)))
    mean = np.mean([scores(confusion_matrix(t, p, 2)).miou for t, p in images])
    assert together.miou == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert not math.isclose(together.miou, mean)


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(ValueError, match="no pixel to score"):
        scores(np.zeros((3, 4), np.int64))


@pytest.mark.filterwarnings("error")
def test_empty_classes_raise_no_warning() -> None:
    assert scores(confusion_matrix(np.array([1]), np.array([-1]), 3)).miou == 0


def test_tally_adds_up_and_keeps_a_line_for_each_image() -> None:
    tally = Tally(5)
    matrices = [confusion_matrix(*random_labels(seed), 5) for seed in range(4)]
    for matrix in [*matrices, np.zeros((5, 6), np.int64)]:
        tally.add(matrix)
    assert np.array_equal(tally.total, sum(matrices))
    for line, matrix in zip(tally.images[:4], matrices, strict=True):
        own = scores(matrix)
        assert line == (own.miou_present, own.pixel_accuracy, own.pixels)
    assert tally.images[4].pixels == 0
    assert math.isnan(tally.images[4].miou)
