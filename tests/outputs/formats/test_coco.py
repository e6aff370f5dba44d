"""COCO's formats as their readers see them."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from skimage.draw import polygon

from clips4.outputs.formats.coco import annotations, as_polygons, coco_document, panoptic_png, segments_info
from clips4.outputs.labeled_image import LabeledImage, connected_parts

NAMES = ("cat", "cup", "grass")


def result(seed: int = 0, height: int = 30, width: int = 40) -> LabeledImage:
    random = np.random.default_rng(seed)
    labels = np.kron(random.integers(-1, 3, (height // 5, width // 5)), np.ones((5, 5))).astype(np.int16)
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    return LabeledImage(image, labels, random.random((height, width), np.float32), NAMES)


def test_coco_document_read_by_pycocotools_has_every_pixel(tmp_path: Path) -> None:
    results = [result(0), result(1, 25, 55)]
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(coco_document(results, ["a.jpg", "b.jpg"])))
    coco = COCO(str(file))
    assert [(c["id"], c["name"]) for c in coco.loadCats(coco.getCatIds())] == [(1, "cat"), (2, "cup"), (3, "grass")]
    for number, each in enumerate(results, 1):
        (image,) = coco.loadImgs(number)
        assert (image["height"], image["width"]) == each.labels.shape
        canvas = np.full(each.labels.shape, -1)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=number)):
            mask = coco.annToMask(annotation).astype(bool)
            rows, columns = np.nonzero(mask)
            left, top, width, height = annotation["bbox"]
            assert (canvas[mask] == -1).all(), "no pixel is in two annotations"
            assert annotation["area"] == mask.sum()
            assert (left, top) == (columns.min(), rows.min())
            assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
            assert annotation["score"] == pytest.approx(each.similarity[mask].mean(), abs=1e-4)
            canvas[mask] = annotation["category_id"] - 1
        np.testing.assert_array_equal(canvas, each.labels)


def test_coco_document_small_parts_are_left_out_and_ids_are_distinct() -> None:
    labels = np.zeros((100, 100), np.int16)
    labels[50, 50] = 1
    one = LabeledImage(np.zeros((100, 100, 3), np.uint8), labels, np.zeros((100, 100), np.float32), NAMES)
    document = coco_document([one, one], ["a", "b"])
    assert [(a["id"], a["image_id"], a["category_id"]) for a in document["annotations"]] == [(1, 1, 1), (2, 2, 1)]
    assert len(coco_document([one], ["a"], min_share=0)["annotations"]) == 2


def test_connected_parts_touching_at_a_corner_are_one() -> None:
    assert len(connected_parts(np.array([[0, -1], [-1, 0]]))[1]) == 1
    assert len(connected_parts(np.array([[0, -1, 0]]))[1]) == 2


def test_coco_document_different_classes_are_refused() -> None:
    other = LabeledImage(result().image, result().labels, result().similarity, ("a", "b", "c"))
    with pytest.raises(ValueError, match="different classes"):
        coco_document([result(), other], ["a", "b"])
    assert coco_document([], [])["images"] == []


def test_panoptic_png_agrees_with_segments_info() -> None:
    """As panopticapi checks them: ids of the PNG are those of the list, and so are areas and boxes."""
    labels = result(3).labels.astype(np.int32)
    labels[labels == 2] = 299  # ids of more than a byte
    with Image.open(io.BytesIO(panoptic_png(labels))) as image:
        rgb = np.array(image.convert("RGB")).astype(int)
    ids = rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]
    np.testing.assert_array_equal(ids, labels + 1)
    segments = segments_info(labels)
    assert {s["id"] for s in segments} == set(np.unique(ids).tolist()) - {0}
    for segment in segments:
        rows, columns = np.nonzero(ids == segment["id"])
        left, top, width, height = segment["bbox"]
        assert segment["area"] == len(rows)
        assert (left, top, left + width - 1, top + height - 1) == (
            columns.min(),
            rows.min(),
            columns.max(),
            rows.max(),
        )


def test_as_polygons_filled_is_the_mask_with_its_holes() -> None:
    rows, columns = np.mgrid[:40, :50]
    distance = (rows - 20) ** 2 + (columns - 25) ** 2
    labels = np.where((distance < 225) & (distance >= 36), 2, -1).astype(np.int16)
    ring = LabeledImage(np.zeros((40, 50, 3), np.uint8), labels, np.zeros((40, 50), np.float32), NAMES)
    (annotation,) = annotations(ring, min_share=0)
    (points,) = as_polygons(annotation, tolerance=0)["segmentation"]
    corners = np.array(points).reshape(-1, 2) - 0.5
    filled = np.zeros(labels.shape, bool)
    filled[polygon(corners[:, 1], corners[:, 0], labels.shape)] = True
    np.testing.assert_array_equal(filled, labels == 2)
