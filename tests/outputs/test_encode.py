"""Every kind of output of more classes than eight bits hold."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from skimage.draw import polygon

from clips4.data.label_maps import read_labels
from clips4.outputs.class_colors import class_colors
from clips4.outputs.encode import describe, image_files
from clips4.outputs.formats.coco import coco_document, segments_info
from clips4.outputs.labeled_image import LabeledImage
from clips4.outputs.render import overlay
from clips4.utils.images import palette

BLOCK = 8  # pixels, the side of an area


def labeled(count: int, labels: list[int]) -> LabeledImage:
    """Blocks of labels in a row, of ``count`` classes."""
    values: NDArray[np.int16] = np.repeat(np.repeat([labels], BLOCK, 1), BLOCK, 0).astype(np.int16)
    gray = np.full((*values.shape, 3), 90, np.uint8)
    return LabeledImage(gray, values, np.ones(values.shape, np.float32), tuple(f"name {n}" for n in range(count)))


MANY = [labeled(256, [0, 255, -1, 254]), labeled(300, [254, 255, 256, 299, -1]), labeled(32_767, [32_766, -1, 65, 0])]


@pytest.mark.parametrize("result", MANY)
def test_image_files_of_many_classes_hold_every_label(result: LabeledImage, tmp_path: Path) -> None:
    files = image_files(result, "a.jpg", "a", ["png", "panoptic", "yolo"])
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    stored = read_labels(tmp_path / "a.png")
    np.testing.assert_array_equal(stored, np.where(result.labels < 0, 65535, result.labels.astype(int)))

    ids = np.asarray(Image.open(tmp_path / "panoptic/a.png")).astype(int) @ (1, 256, 65536)
    np.testing.assert_array_equal(ids, result.labels.astype(int) + 1)
    assert {each["id"] for each in segments_info(result.labels)} == set(np.unique(ids)) - {0}

    drawn: NDArray[np.int64] = np.full(result.labels.shape, -1)
    for line in (tmp_path / "yolo/labels/a.txt").read_text().splitlines():
        label, *points = line.split()
        shares: NDArray[np.float64] = np.array(points, float).reshape(-1, 2)
        corners = shares * np.array(drawn.shape[::-1]) - 0.5
        drawn[polygon(corners[:, 1], corners[:, 0], drawn.shape)] = int(label)
    np.testing.assert_array_equal(drawn, result.labels)


@pytest.mark.parametrize("result", MANY)
def test_coco_document_of_many_classes_is_read_by_pycocotools(result: LabeledImage, tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text(json.dumps(coco_document([result], ["a.jpg"])))
    coco = COCO(str(tmp_path / "coco.json"))
    drawn = np.full(result.labels.shape, -1)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        drawn[coco.annToMask(annotation).astype(bool)] = annotation["category_id"] - 1
        (category,) = coco.loadCats(annotation["category_id"])
        assert category["name"] == f"name {annotation['category_id'] - 1}"
    np.testing.assert_array_equal(drawn, result.labels)


@pytest.mark.parametrize("result", MANY)
def test_overlay_and_description_of_many_classes_have_the_palettes_colors(result: LabeledImage) -> None:
    areas = describe(result, "a.jpg")["areas"]
    assert isinstance(areas, list)
    shown = overlay(result, alpha=1)
    colors = class_colors(result.names)
    for area in areas:
        label = -1 if area["name"] == "unknown" else int(area["name"].split()[1])
        assert area["value"] == (label if label >= 0 else 65535)
        middle = shown[BLOCK // 2, BLOCK * int(np.flatnonzero(result.labels[0] == label)[0]) // BLOCK + BLOCK // 2]
        expected = colors[label] if label >= 0 else np.array([150, 150, 150])
        np.testing.assert_array_equal(middle, expected)
        assert area["color"] == "#{:02x}{:02x}{:02x}".format(*expected)


def test_palette_neighbors_of_many_classes_differ() -> None:
    colors = palette(2000).astype(int)
    assert len(np.unique(palette(255), axis=0)) == 255
    assert (abs(np.diff(colors, axis=0)).max(1) >= 24).all()


def test_label_png_of_255_classes_has_8_bits() -> None:
    content = image_files(labeled(255, [254, -1]), "a.jpg", "a", ["png"])["a.png"]
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "P"
        assert set(np.unique(np.asarray(image))) == {254, 255}
