"""Label Studio: its polygons, in percents of the image, drawn by Pillow, give the labels back."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clips4.outputs.brush_rle import decode
from clips4.outputs.formats.label_studio import label_studio_task, labeling_config
from clips4.outputs.labeled_image import LabeledImage

NAMES = ("a", "b & c", "d")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_task_of_blobs_gives_their_pixels_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.full((60, 80), -1, np.int16)
    for label in range(3):
        top, left = rng.integers(2, 30, 2)
        labels[top : top + 18, left : left + 22] = label
    result = LabeledImage(np.zeros((60, 80, 3), np.uint8), labels, np.zeros((60, 80), np.float32), NAMES)
    task = json.loads(json.dumps(label_studio_task(result, "/photos/a.jpg")))
    assert task["data"] == {"image": "/data/local-files/?d=photos/a.jpg"}
    canvas = Image.new("L", (80, 60), 255)
    for region in task["predictions"][0]["result"]:
        assert (region["original_width"], region["original_height"]) == (80, 60)
        points = [(x * 80 / 100, y * 60 / 100) for x, y in region["value"]["points"]]
        ImageDraw.Draw(canvas).polygon(points, fill=NAMES.index(region["value"]["polygonlabels"][0]))
    assert (np.array(canvas) == np.where(labels < 0, 255, labels)).mean() > 0.94


def test_regions_refer_to_the_labeling_configuration() -> None:
    labels = np.zeros((5, 6), np.int16)
    result = LabeledImage(np.zeros((5, 6, 3), np.uint8), labels, np.zeros((5, 6), np.float32), NAMES)
    (region,) = label_studio_task(result, "/x.png")["predictions"][0]["result"]
    view = ElementTree.fromstring(labeling_config(NAMES))
    assert ElementTree.fromstring(labeling_config(NAMES, brush=True)).find("BrushLabels") is not None
    control, image = view.find("PolygonLabels"), view.find("Image")
    assert control is not None
    assert image is not None
    assert (region["from_name"], region["to_name"]) == (control.get("name"), control.get("toName"))
    assert region["to_name"] == image.get("name")
    assert [each.get("value") for each in control] == list(NAMES)


def test_brush_task_has_a_mask_of_every_class_that_occurs() -> None:
    labels = np.random.default_rng(0).integers(-1, 2, (9, 13)).astype(np.int16)
    result = LabeledImage(np.zeros((9, 13, 3), np.uint8), labels, np.zeros((9, 13), np.float32), NAMES)
    regions = label_studio_task(result, "/x.png", brush=True)["predictions"][0]["result"]
    assert [region["value"]["brushlabels"] for region in regions] == [["a"], ["b & c"]]
    for label, region in enumerate(regions):
        np.testing.assert_array_equal(decode(region["value"]["rle"], (9, 13)), labels == label)
