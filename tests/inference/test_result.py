"""The result: its areas, its connected parts with their embeddings, and the three ways out."""

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from clips4.errors import UserError
from clips4.inference.result import Segmentation
from clips4.outputs.formats.coco import annotations
from clips4.utils.images import decode_rgb, load_rgb
from tests.helpers import noise_image, provable, seeds, unit


def result(labels: list[list[int]], unknown: list[list[int]] | None = None, names: int = 2) -> Segmentation:
    values = np.array(labels, np.int16)
    height, width = values.shape
    similarity = (np.arange(values.size) / values.size).astype(np.float32).reshape(values.shape)
    unknown_labels = None if unknown is None else np.array(unknown, np.int16)
    z = unit(3, 2, 3, dim=0, dtype=torch.float32)
    return Segmentation(
        noise_image(height, width), values, similarity, ("cat", "cup", "sofa")[:names], unknown_labels, z=z
    )


LABELS = [[0, 0, 1, -1, -1], [0, 1, 1, -1, -1], [0, 0, 0, -1, 0]]
UNKNOWN = [[-1, -1, -1, 4, 4], [-1, -1, -1, 4, 2], [-1, -1, -1, 2, -1]]


def test_segments_are_connected_and_of_one_class() -> None:
    found = [(each.name, each.unknown, each.pixels, each.box) for each in result(LABELS, UNKNOWN).segments]
    assert sorted(found, key=str) == sorted(
        [
            ("cat", None, 6, (0, 0, 3, 3)),
            ("cat", None, 1, (4, 2, 1, 1)),
            ("cup", None, 3, (1, 0, 2, 2)),
            ("unknown", 4, 3, (3, 0, 2, 2)),
            ("unknown", 2, 2, (3, 1, 2, 2)),
        ],
        key=str,
    )
    assert [each.pixels for each in result(LABELS, UNKNOWN).segments] == [6, 3, 3, 2, 1]


@provable
@given(seeds, st.integers(1, 12), st.integers(1, 12))
def test_segments_of_named_classes_are_the_annotations_of_coco(seed: int, height: int, width: int) -> None:
    labels = np.random.default_rng(seed).integers(-1, 2, (height, width)).astype(np.int16)
    similarity = np.ones((height, width), np.float32)
    segmentation = Segmentation(noise_image(height, width), labels, similarity, ("cat", "cup"))
    segments = sorted((each.label + 1, each.pixels, each.box) for each in segmentation.segments if each.label >= 0)
    found = annotations(segmentation, min_share=0)
    assert segments == sorted((each["category_id"], each["area"], tuple(each["bbox"])) for each in found)


def test_segments_without_discovered_classes_have_one_unknown() -> None:
    found = [(each.name, each.unknown, each.pixels) for each in result(LABELS).segments]
    assert ("unknown", None, 5) in found
    assert result(LABELS).unknown_areas() == []


def test_unknown_areas_are_sorted_and_sum_to_the_unknown_share() -> None:
    areas = result(LABELS, UNKNOWN).unknown_areas()
    assert [(area.name, area.label, area.pixels) for area in areas] == [("unknown 4", 4, 3), ("unknown 2", 2, 2)]
    assert sum(area.share for area in areas) == pytest.approx(result(LABELS, UNKNOWN).unknown_share)


@provable
@given(seeds, st.integers(1, 12), st.integers(1, 12))
def test_segments_cover_every_pixel_once(seed: int, height: int, width: int) -> None:
    """Each pixel is in exactly one part, whose mask, score and name are those of its pixels."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(-1, 2, (height, width)).astype(np.int16)
    similarity = draw.random((height, width)).astype(np.float32)
    answer = Segmentation(noise_image(height, width), labels, similarity, ("cat", "cup"))
    covered = np.zeros((height, width), int)
    for part in answer.segments:
        left, top, across, down = part.box
        window = np.s_[top : top + down, left : left + across]
        covered[window] += part.mask
        assert part.mask.any(0).all()
        assert part.mask.any(1).all()
        assert (labels[window][part.mask] == part.label).all()
        assert part.pixels == part.mask.sum()
        assert part.score == pytest.approx(similarity[window][part.mask].mean(), abs=1e-5)
        assert part.v is None
    assert (covered == 1).all()


def test_segments_equal_embeddings_give_that_embedding() -> None:
    answer = result(LABELS, UNKNOWN)
    assert answer.z is not None
    answer.z[:] = F.normalize(torch.tensor([1.0, 2.0, 3.0]), dim=0)[:, None, None]
    for part in answer.segments:
        assert part.v is not None
        np.testing.assert_allclose(part.v, answer.z[:, 0, 0].numpy(), atol=1e-6)


def test_save_writes_the_files_of_the_kinds(tmp_path: Path) -> None:
    answer = result(LABELS, UNKNOWN)
    assert answer.overlay(legend=False).shape == answer.image.shape
    assert answer.overlay().shape != answer.image.shape
    written = answer.save(tmp_path / "new", "a", ["png", "overlay"])
    assert [path.name for path in written] == ["a.png", "a_overlay.png"]
    shown = answer.overlay()
    assert np.abs(load_rgb(written[1]).astype(int) - shown).mean() < 3, "as JPEG"
    with pytest.raises(UserError, match="jpeg2000"):
        answer.save(tmp_path, "a", ["jpeg2000"])  # type: ignore[list-item]


def test_to_coco_is_read_by_pycocotools(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    labels = np.zeros((40, 60), np.int16)
    labels[5:30, 10:40] = 1
    answer = Segmentation(noise_image(40, 60), labels, np.ones((40, 60), np.float32), ("cat", "cup"))
    (tmp_path / "coco.json").write_text(json.dumps(answer.to_coco("photo.jpg")))
    read = coco.COCO(str(tmp_path / "coco.json"))
    masks = {read.cats[each["category_id"]]["name"]: read.annToMask(each) for each in read.anns.values()}
    np.testing.assert_array_equal(masks["cup"], labels == 1)
    np.testing.assert_array_equal(masks["cat"], labels == 0)


def test_from_text_alone_lists_classes_by_text() -> None:
    answer = Segmentation(
        noise_image(2, 2), np.zeros((2, 2), np.int16), np.zeros((2, 2), np.float32), ("a", "b"), None, ("bank", "text")
    )
    assert answer.from_text_alone == ("b",)


def test_to_transformers_is_the_pipelines_semantic_output() -> None:
    found = result(LABELS).to_transformers()
    assert [each["label"] for each in found] == ["cat", "cup", "unknown"]
    assert all(each.keys() == {"score", "label", "mask"} and each["score"] is None for each in found)
    assert all(each["mask"].mode == "L" for each in found)
    masks = np.stack([np.asarray(each["mask"]) for each in found])
    assert set(np.unique(masks)) == {0, 255}
    np.testing.assert_array_equal(masks.argmax(0), np.array(LABELS) % 3)


def test_to_supervision_gives_a_detection_for_each_part_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    stand_in = ModuleType("supervision")  # the package needs a build of OpenCV that another extra replaces
    monkeypatch.setattr(stand_in, "Detections", lambda **fields: given.update(fields), raising=False)
    monkeypatch.setitem(sys.modules, "supervision", stand_in)
    result(LABELS, UNKNOWN).to_supervision()
    assert set(given) == {"xyxy", "mask", "confidence", "class_id", "data"}
    assert given["xyxy"].tolist() == [[0, 0, 3, 3], [1, 0, 3, 2], [4, 2, 5, 3]]
    assert given["class_id"].tolist() == [0, 1, 0]
    assert given["data"]["class_name"].tolist() == ["cat", "cup", "cat"]
    assert (given["mask"].shape, given["mask"].dtype) == ((3, 3, 5), np.bool_)
    drawn = np.full((3, 5), -1)
    for mask, label in zip(given["mask"], given["class_id"], strict=True):
        drawn[mask.astype(bool)] = label
    np.testing.assert_array_equal(drawn, LABELS)
    result([[-1, -1]]).to_supervision()
    assert (given["xyxy"].shape, given["mask"].shape) == ((0, 4), (0, 1, 2))


def test_to_supervision_without_the_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        result(LABELS).to_supervision()


def predicted(sharpness: float = 1.0) -> Segmentation:
    """A result whose labels are the argmax of its own cosines; the second class has two vectors."""
    z = unit(3, 4, 5, dim=0, dtype=torch.float32)
    vectors, owner = unit(4, 3, seed=1, dtype=torch.float32) * sharpness, torch.tensor([0, 1, 1, 2])
    cosines = F.interpolate(torch.einsum("dhw,ld->lhw", z, vectors)[None], (16, 20), mode="bilinear")[0]
    labels = owner[cosines.argmax(0)].numpy().astype(np.int16)
    best = cosines.amax(0).numpy()
    return Segmentation(noise_image(16, 20), labels, best, ("cat", "cup", "sky"), None, (), z, vectors, owner, "a.jpg")


def test_mask_of_a_name_is_where_its_label_is() -> None:
    answer = result(LABELS, UNKNOWN)
    np.testing.assert_array_equal(answer.mask("Cup"), np.array(LABELS) == 1)
    np.testing.assert_array_equal(answer.mask("unknown"), np.array(LABELS) == -1)
    np.testing.assert_array_equal(answer.mask("unknown 5"), np.array(UNKNOWN) == 4)


@pytest.mark.parametrize(("name", "message"), [("cats", "did you mean 'cat'"), ("zebra", "there is cat, cup")])
def test_mask_of_another_name_lists_the_names(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        result(LABELS).mask(name)


def test_mask_of_a_number_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="takes the name of a class, got int"):
        result(LABELS).mask(1)  # type: ignore[arg-type]


def test_probabilities_sum_to_one_and_agree_with_labels() -> None:
    answer = predicted()
    probabilities = answer.probabilities()
    assert probabilities.shape == (3, 16, 20)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    assert (probabilities.argmax(0) == answer.labels).mean() > 0.99


def test_probabilities_are_the_softmax_of_the_best_cosine_of_each_class() -> None:
    answer = predicted()
    assert answer.z is not None
    assert answer.vectors is not None
    cosines = F.interpolate(torch.einsum("dhw,ld->lhw", answer.z, answer.vectors)[None], (16, 20), mode="bilinear")[0]
    best = torch.stack([cosines[0], torch.maximum(cosines[1], cosines[2]), cosines[3]])
    np.testing.assert_allclose(answer.probabilities(7.0), (7 * best).softmax(0).numpy(), atol=1e-5)


def test_probabilities_without_embeddings_raises() -> None:
    with pytest.raises(ValueError, match="no probabilities"):
        replace(predicted(), z=None).probabilities()


def test_repr_is_one_short_line_without_arrays() -> None:
    assert repr(result(LABELS)) == "Segmentation(5 x 3 pixels: cat 46.7 %, cup 20.0 %, unknown 33.3 %)"
    assert len(repr(predicted().segments[0])) < 120
    assert "array" not in repr(predicted().embeddings())


def test_results_are_equal_if_all_values_are() -> None:
    assert predicted() == predicted()
    assert replace(predicted(), source="b.jpg") == predicted(), "the file's name is no part of the prediction"
    changed = replace(predicted(), labels=predicted().labels + 1)
    assert changed != predicted()
    assert predicted() != "a result"


def test_pickled_result_is_equal() -> None:
    answer = predicted()
    assert answer.segments
    assert pickle.loads(pickle.dumps(answer)) == answer


def test_numbers_of_a_result_are_plain() -> None:
    answer = result(LABELS, UNKNOWN)
    for area in (*answer.areas(), *answer.unknown_areas()):
        assert (type(area.share), type(area.pixels), type(area.label)) == (float, int, int)
    assert type(answer.unknown_share) is float
    assert {type(part.score) for part in answer.segments} == {float}
    assert {type(value) for part in answer.segments for value in part.box} == {int}


def test_png_of_a_notebook_is_the_overlay_with_its_legend() -> None:
    answer = predicted()
    np.testing.assert_array_equal(decode_rgb(answer._repr_png_(), "shown"), answer.overlay())


def test_html_of_a_notebook_lists_what_occurs_and_escapes_names() -> None:
    shown = replace(result(LABELS), names=("<cat>", "cup", "sofa"))._repr_html_()
    assert "&lt;cat&gt;" in shown
    assert "<cat>" not in shown
    assert "sofa" not in shown


def test_plot_draws_the_overlay_and_lists_what_occurs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    answer = replace(result(LABELS), names=("cat", "cup", "sofa"))
    axes = answer.plot()
    np.testing.assert_array_equal(axes.get_images()[0].get_array(), answer.overlay(legend=False))
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["cat 46.7 %", "cup 20.0 %", "unknown 33.3 %"]
    assert result([[0, 0]]).plot(axes, legend=False) is axes
