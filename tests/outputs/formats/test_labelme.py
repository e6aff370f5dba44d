import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clips4.outputs.formats.labelme import labelme_document
from clips4.outputs.labeled_image import LabeledImage


def drawn(document: dict[str, object], names: tuple[str, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The label map that labelme's own drawing gives: polygons filled by Pillow."""
    canvas = Image.new("L", (document["imageWidth"], document["imageHeight"]), 255)  # type: ignore[arg-type]
    for shape in document["shapes"]:  # type: ignore[attr-defined]
        ImageDraw.Draw(canvas).polygon([tuple(p) for p in shape["points"]], fill=names.index(shape["label"]))
    return np.array(canvas)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labelme_of_blobs_gives_their_pixels_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.full((60, 80), -1, np.int16)
    for label in range(3):
        top, left = rng.integers(2, 30, 2)
        labels[top : top + 18, left : left + 22] = label
    names = ("a", "b", "c")
    result = LabeledImage(np.zeros((60, 80, 3), np.uint8), labels, np.zeros((60, 80), np.float32), names)
    document = labelme_document(result, "photo.jpg")
    assert json.loads(json.dumps(document))["imagePath"] == "photo.jpg"
    found = drawn(document, names)
    assert (found == np.where(labels < 0, 255, labels)).mean() > 0.94


def test_labelme_of_unknown_alone_has_no_shapes() -> None:
    labels = np.full((5, 6), -1, np.int16)
    result = LabeledImage(np.zeros((5, 6, 3), np.uint8), labels, np.zeros((5, 6), np.float32), ("a",))
    assert labelme_document(result, "x.png")["shapes"] == []
