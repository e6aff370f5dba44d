"""Language-driven scores, and the traps of the protocol."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.data.class_names import ClassList, load_classes
from clips4.data.label_maps import IGNORE
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.evaluation.open_vocabulary import (
    classify,
    cosines,
    evaluate_language,
    resize_short,
    score_language,
    slide,
)
from clips4.evaluation.protocols import Protocol, class_file_hash, language_protocol
from clips4.evaluation.queries import foreground
from clips4.evaluation.record import describe_scores
from clips4.inference.classifier import Query
from clips4.inference.refine.background import BackgroundRule
from clips4.inference.refine.lposs import propagate_over
from clips4.inference.refine.maskclip import Refinement, refined_probabilities
from clips4.inference.segmenter import Segmenter
from clips4.utils.tensors import resize_map, to_tensor
from tests.helpers import unit

CLASSES = load_classes("red,green,blue")


def color_of_pixels(images: Tensor) -> Tensor:
    """A network that sees nothing but color: (B, 3, H, W) -> (B, 3, H / 2, W / 2) unit along color."""
    small = torch.nn.functional.avg_pool2d(images, 2)
    return torch.nn.functional.normalize(small, dim=1)


def dataset(root: Path, truth: NDArray[np.uint8], shown: NDArray[np.uint8], classes: ClassList) -> LabeledFolder:
    """One picture with pure colors, and its label map."""
    Image.fromarray((np.eye(3, dtype=np.uint8) * 255)[shown]).save(root / "a.png")
    Image.fromarray(truth).save(root / "a_labels.png")
    table = np.full(256, IGNORE, np.uint8)
    table[:3] = range(3)
    return LabeledFolder((root / "a.png",), (root / "a_labels.png",), classes, table)


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter(color_of_pixels, TeacherConfig(), 64, torch.device("cpu"))


def halves(left: int, right: int) -> NDArray[np.uint8]:
    labels = np.full((40, 48), left, np.uint8)
    labels[:, 24:] = right
    return labels


class KeyedColors:
    """A teacher of colors whose keys are the colors themselves."""

    name, embed_dim, patch_stride = "colors", 3, 2

    def encode_pixels(self, images: Tensor) -> Tensor:
        return color_of_pixels(images)

    def encode_pixels_and_keys(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return color_of_pixels(images), color_of_pixels(images)


@pytest.mark.parametrize("windowed", [False, True])
def test_cosines_of_a_refined_teacher_are_probabilities_of_each_window(windowed: bool) -> None:
    refinement = Refinement(prompt_denoising=True, key_smoothing=True)
    teacher: Any = KeyedColors()
    segmenter = Segmenter(
        teacher.encode_pixels, TeacherConfig(), 64, torch.device("cpu"), teacher=teacher, refinement=refinement
    )
    protocol = replace(language_protocol("tcl", "camvid11", "simple"), short_side=40, window=20, stride=20)
    image = (np.eye(3, dtype=np.uint8) * 255)[halves(0, 1)]
    vectors = torch.eye(3)
    found = cosines(segmenter, image, vectors, protocol if windowed else replace(protocol, short_side=None))
    torch.testing.assert_close(found.sum(0), torch.ones(found.shape[1:]))
    assert (found[2] == 0).all(), "blue is confident nowhere"
    if not windowed:
        whole = segmenter.encode_image(image)
        logits = torch.einsum("dhw,ld->lhw", whole.z, vectors)
        assert torch.equal(found, refined_probabilities(logits, whole.keys, refinement))
    assert torch.equal(classify(found, torch.arange(3), (40, 48), None, True), torch.from_numpy(halves(0, 1)).long())


def noisy_colors(height: int, width: int) -> NDArray[np.uint8]:
    """A reddish half beside a greenish one, neither pure anywhere."""
    means = np.array([[150, 100, 90], [100, 150, 90]])[halves(0, 1)[:height, :width]]
    return (means + np.random.default_rng(0).normal(0, 45, means.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("refine", ["lposs", "pamr", "regions"])
def test_evaluate_language_scores_what_a_refined_segmenter_predicts(
    refine: Any, segmenter: Segmenter, tmp_path: Path
) -> None:
    image, query = noisy_colors(40, 48), Query.one_per_class(torch.eye(3), CLASSES.names)
    refined = segmenter.with_refinement(refine)
    truth = refined.predict(refined.encode_image(image), query, unknown=False).labels
    data = dataset(tmp_path, truth.astype(np.uint8), halves(0, 1), CLASSES)
    Image.fromarray(image).save(tmp_path / "a.png")
    protocol = language_protocol("clips4-v1", "camvid11", "simple")
    for each, is_equal in ((refined, True), (segmenter, False)):
        found = evaluate_language(each, data, {"text": query}, protocol)["text"].scores
        assert (found.pixel_accuracy == 1) == is_equal


def test_evaluate_language_to_edges_needs_a_set_without_background(segmenter: Segmenter, tmp_path: Path) -> None:
    data = replace(dataset(tmp_path, halves(0, 1), halves(0, 1), CLASSES), background=True)
    protocol = language_protocol("clips4-v1", "voc21", "simple")
    with pytest.raises(ValueError, match="not to labels refined to the image's edges"):
        evaluate_language(segmenter.with_refinement("pamr"), data, {}, protocol)


def test_cosines_by_lposs_are_spread_within_each_window(segmenter: Segmenter) -> None:
    protocol = replace(language_protocol("tcl", "camvid11", "simple"), short_side=40, window=20, stride=20)
    image, refined = noisy_colors(40, 40), segmenter.with_refinement("lposs")
    found = cosines(refined, image, torch.eye(3), protocol)
    z = color_of_pixels(to_tensor(image)[None, :, :20, :20])[0]
    window = propagate_over(torch.einsum("dhw,ld->lhw", z, torch.eye(3)), z)
    torch.testing.assert_close(found[:, :20, :20], resize_map(window[None], (20, 20))[0])


def test_classify_compares_a_threshold_with_probabilities_as_they_are() -> None:
    shares = torch.tensor([[[0.5, 0.3]], [[0.5, 0.7]]])
    rule = BackgroundRule(probability=0.6, scale=100)
    labels = classify(shares, torch.tensor([1, 2]), (1, 2), rule, True)
    assert labels.tolist() == [[0, 2]]


def test_score_language_perfect_prediction_scores_one(segmenter: Segmenter, tmp_path: Path) -> None:
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


def test_truth_is_never_resized(segmenter: Segmenter, tmp_path: Path) -> None:
    truth = halves(0, 1)
    truth[::7, 3] = 2  # single pixels would vanish in a resized truth
    result = score_language(segmenter, dataset(tmp_path, truth, halves(0, 1), CLASSES), {"eye": torch.eye(3)})["eye"]
    assert result.pixels == truth.size
    assert result.present.tolist() == [True, True, True]


def test_fingerprints_of_class_lists() -> None:
    assert class_file_hash(CLASSES) == class_file_hash(load_classes("red,green,blue"))
    assert class_file_hash(CLASSES) != class_file_hash(load_classes("red,blue,green"))
    assert class_file_hash(CLASSES) != class_file_hash(load_classes(["red: crimson", "green", "blue"]))


# ------------------------------------------------------------------------------------------------- traps and protocols


def background_set(root: Path, truth: NDArray[np.uint8], shown: NDArray[np.uint8]) -> LabeledFolder:
    return replace(dataset(root, truth, shown, load_classes("background,green,blue")), background=True)


def protocol(**changes: Any) -> Protocol:
    base = Protocol("test", None, None, None, "", "simple", "mean", None)
    return replace(base, **changes)


def test_trap_1_cosines_are_upsampled_before_the_argmax(tmp_path: Path) -> None:
    """A network that answers on 2 x 2 positions: upsampled cosines cross in the middle of the picture's columns, a
    resized answer would step where the positions meet whatever the cosines."""

    def coarse(images: Tensor) -> Tensor:
        left, right = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.6, 0.8, 0.0])
        return torch.stack([left, right], 1)[None, :, None].expand(1, 3, 2, 2)

    truth = np.zeros((40, 40), np.uint8)
    found = evaluate_language(
        Segmenter(coarse, TeacherConfig(), 64, torch.device("cpu")),
        dataset(tmp_path, truth, truth, CLASSES),
        {"eye": Query.one_per_class(torch.eye(3))},
        protocol(),
    )["eye"]
    # between the centres at 10 and 30 the first cosine falls from 1 to .6, the second rises from 0 to .8
    crossing = 10 + 20 * 1 / (0.4 + 0.8)
    assert found.confusion[0, 0] / 40 == pytest.approx(crossing, abs=1)
    assert abs(crossing - 20) > 5


def test_trap_2_one_matrix_over_the_set_and_absent_classes_counted(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    one = dataset(tmp_path / "x", halves(0, 1), halves(0, 0), CLASSES)
    two = dataset(tmp_path / "y", halves(1, 1), halves(1, 1), CLASSES)
    both = LabeledFolder(one.images + two.images, one.masks + two.masks, CLASSES, one.table)
    found = evaluate_language(segmenter, both, {"eye": Query.one_per_class(torch.eye(3))}, protocol())["eye"]
    assert found.scores.miou == pytest.approx((1 / 2 + 2 / 3) / 2)
    own = [image.miou for image in found.images]
    assert found.scores.miou != pytest.approx(np.mean(own))
    record = describe_scores(found.scores, CLASSES.names)
    assert (record["classes_in_truth"], record["classes_in_neither"]) == (2, 1)


def test_trap_3_a_threshold_needs_a_background_and_a_background_a_threshold(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    rule = BackgroundRule(probability=0.7, scale=10, queried=False)
    plain = dataset(tmp_path, halves(1, 2), halves(1, 2), CLASSES)
    query = {"eye": Query.one_per_class(torch.eye(3))}
    with pytest.raises(ValueError, match="background"):
        evaluate_language(segmenter, plain, query, protocol(background=rule))
    with pytest.raises(ValueError, match="background"):
        evaluate_language(segmenter, replace(plain, background=True), query, protocol())


def test_background_is_where_no_class_is_probable(segmenter: Segmenter, tmp_path: Path) -> None:
    """Red is asked for by no word: its cosines with green and blue are equal, so that neither is probable."""
    data = background_set(tmp_path, halves(0, 1), halves(0, 1))
    rule = protocol(background=BackgroundRule(probability=0.7, scale=10, queried=False))
    query = foreground(Query.one_per_class(torch.eye(3)), rule)
    assert query.owner.tolist() == [1, 2]
    found = evaluate_language(segmenter, data, {"eye": query}, rule)["eye"]
    assert found.scores.pixel_accuracy > 0.95
    never = protocol(background=BackgroundRule(probability=0.0, scale=10, queried=False))
    found = evaluate_language(segmenter, data, {"eye": query}, never)["eye"]
    assert found.confusion[0, 0] == 0


def test_names_compete_and_small_areas_are_left_out() -> None:
    logits = torch.tensor([0.1, 0.5, 0.9, 0.2])[:, None, None].expand(4, 2, 2).clone()
    owner = torch.tensor([0, 1, 1, 2])
    assert (classify(logits, owner, (6, 6), None) == 1).all(), "the best word of a class speaks for it"
    logits[3, 0, 0] = 2.0
    rule = BackgroundRule(probability=0.0, scale=10, min_share=0.3)
    labels = classify(logits, owner, (20, 20), rule)
    without = classify(logits, owner, (20, 20), replace(rule, min_share=0.0))
    assert (without == 2).any()
    assert (labels == 1).all(), "class 2 covers less than 30 % of the foreground"


def test_classes_a_few_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from clips4.evaluation import open_vocabulary as language

    logits, owner = torch.randn(11, 4, 5, generator=torch.Generator().manual_seed(0)), torch.arange(11)
    rule = BackgroundRule(probability=0.2, scale=3, min_share=0.1)
    whole = classify(logits, owner, (30, 40), rule)
    monkeypatch.setattr(language, "LOGIT_BUDGET", 30 * 40 * 2)
    assert torch.equal(classify(logits, owner, (30, 40), rule), whole)


@pytest.mark.parametrize(("height", "width"), [(336, 500), (200, 224), (100, 90), (448, 449)])
def test_windows_cover_the_image_and_lie_inside(height: int, width: int) -> None:
    seen = np.zeros((height, width), int)
    for top, bottom, left, right in slide(height, width, 224, 112):
        assert bottom - top == min(224, height)
        assert right - left == min(224, width)
        seen[top:bottom, left:right] += 1
    assert seen.min() >= 1


def test_windows_equal_the_literal_accumulation(segmenter: Segmenter) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    rules = protocol(short_side=50, window=32, stride=20)
    found = cosines(segmenter, picture, torch.eye(3), rules)
    image = resize_short(picture, 50)[None]
    total, count = torch.zeros(3, 50, 70), torch.zeros(50, 70)
    for top in (0, 18):
        for left in (0, 20, 38):
            part = color_of_pixels(image[..., top : top + 32, left : left + 32])
            large = torch.nn.functional.interpolate(part, (32, 32), mode="bilinear")[0]
            total[:, top : top + 32, left : left + 32] += large
            count[top : top + 32, left : left + 32] += 1
    torch.testing.assert_close(found, total / count)


def test_short_sides_are_met_up_and_down() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    assert resize_short(image, 30).shape == (3, 30, 45)
    assert resize_short(image, 120).shape == (3, 120, 180)
    assert torch.equal(resize_short(image, 60), to_tensor(image))


@pytest.mark.parametrize("budget", [1, 100, 2**26])
def test_threshold_of_grouped_vectors_is_on_the_probability_of_classes(
    budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clips4.evaluation.open_vocabulary.LOGIT_BUDGET", budget)
    logits, owner = unit(6, 3, 4, seed=2, dim=0), torch.tensor([1, 1, 1, 2, 3, 3])
    rule = BackgroundRule(probability=0.5, scale=4.0, queried=False)
    large = resize_map(logits[None], (6, 8))[0]
    scores = torch.stack([large[owner == label].amax(0) for label in (1, 2, 3)])
    probability, best = (4.0 * scores).softmax(0).max(0)
    expected = torch.where(probability < 0.5, 0, best + 1)
    assert 0 < (expected == 0).double().mean() < 1
    assert torch.equal(classify(logits, owner, (6, 8), rule, grouped=True), expected)
