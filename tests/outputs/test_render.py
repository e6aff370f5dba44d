"""Files of a result: values, colors and legends say the same."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips4.errors import UserError
from clips4.outputs.class_colors import class_colors
from clips4.outputs.encode import describe, label_png, parse_kinds, save_image
from clips4.outputs.labeled_image import LabeledImage
from clips4.outputs.render import legend_entries, overlay, overlay_with_legend
from clips4.utils.images import UNKNOWN_COLOR


def result_of(labels: list[list[int]], names: tuple[str, ...] = ("cat", "cup"), scale: int = 1) -> LabeledImage:
    values = np.array(labels, np.int16).repeat(scale, 0).repeat(scale, 1)
    image = np.full((*values.shape, 3), 100, np.uint8)
    return LabeledImage(image, values, np.full(values.shape, 0.5, np.float32), names)


def test_label_png_holds_indices_and_class_colors() -> None:
    image = Image.open(io.BytesIO(label_png(result_of([[0, 1], [1, -1]]))))
    assert image.mode == "P"
    assert np.array(image).tolist() == [[0, 1], [1, 255]]
    colors = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(colors[0], class_colors(["cat", "cup"]))
    assert tuple(colors[1, 1]) == UNKNOWN_COLOR


def test_label_png_more_than_255_classes_has_16_bits() -> None:
    names = tuple(f"class {index}" for index in range(300))
    image = Image.open(io.BytesIO(label_png(result_of([[299, -1]], names))))
    assert np.array(image).tolist() == [[299, 65535]]


def test_describe_areas_sum_to_the_image() -> None:
    report = describe(result_of([[0, 1], [1, -1]]), "a.jpg")
    assert (report["file"], report["width"], report["height"]) == ("a.jpg", 2, 2)
    assert report["asked"] == ["cat", "cup"]
    assert report["unknown_share"] == 0.25
    areas = report["areas"]
    assert isinstance(areas, list)
    assert [(a["name"], a["value"], a["pixels"], a["share"], a["mean_cosine"]) for a in areas] == [
        ("cup", 1, 2, 0.5, 0.5),
        ("cat", 0, 1, 0.25, 0.5),
        ("unknown", 255, 1, 0.25, 0.5),
    ]
    assert areas[2]["color"] == "#969696"


def test_legend_entries_name_what_occurs() -> None:
    entries = legend_entries(result_of([[1, 1], [1, 1]]))
    assert entries == [("cup 100.0 %", tuple(class_colors(["cat", "cup"])[1]))]
    tiny = np.zeros((50, 50), np.int16)
    tiny[0, 0] = 1
    assert legend_entries(result_of(tiny.tolist()))[1][0] == "cup < 0.1 %"


def test_legend_entries_many_classes_join_the_small_ones() -> None:
    labels = np.zeros((100, 100), np.int16)
    labels[0, :13] = np.arange(1, 14)
    names = tuple(f"class {index}" for index in range(14))
    texts = [text for text, _ in legend_entries(result_of(labels.tolist(), names))]
    assert texts == ["class 0 99.9 %", "13 more, together 0.1 %"]


def test_overlay_shows_each_class_in_its_legend_color() -> None:
    shown = overlay(result_of([[0, 1]], scale=8), alpha=1.0)
    np.testing.assert_array_equal(shown[2, 2], class_colors(["cat", "cup"])[0])
    np.testing.assert_array_equal(shown[2, 12], class_colors(["cat", "cup"])[1])
    assert (shown[:, 7] == 255).all(), "a white line between the classes"


@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (1, 1), (2, 700)])
def test_overlay_with_legend_keeps_the_whole_image(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.int16)
    image = np.zeros((*shape, 3), np.uint8)
    result = LabeledImage(image, labels, np.zeros(shape, np.float32), ("a class with quite a long name", "b"))
    panel = overlay_with_legend(result)
    assert panel.shape[0] >= shape[0]
    assert panel.shape[1] >= shape[1]
    color = class_colors(result.names)[0]
    assert (panel.reshape(-1, 3) == color).all(1).sum() >= 100, "the legend has a swatch of the class's color"


def test_save_image_writes_the_given_kinds(tmp_path: Path) -> None:
    result = result_of([[0, 1], [1, -1]])
    written = save_image(result, "a.jpg", tmp_path / "out", "a", ("png", "overlay", "json"))
    assert [path.name for path in written] == ["a.png", "a_overlay.png", "a.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    assert json.loads(written[2].read_text()) == describe(result, "a.jpg")


def test_parse_kinds_unknown_or_none_is_refused() -> None:
    assert parse_kinds("json, png") == ("png", "json")
    with pytest.raises(UserError, match="'gif'"):
        parse_kinds("png,gif")
    with pytest.raises(UserError, match="no kind of output"):
        parse_kinds(" , ")
