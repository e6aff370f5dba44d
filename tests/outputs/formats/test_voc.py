"""Pascal VOC: values, colors and names, as a literal reader of palette PNGs finds them."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from clips4.errors import UserError
from clips4.outputs.formats.voc import labelmap, voc_palette, voc_png, voc_values, voc_xml
from clips4.outputs.labeled_image import LabeledImage


def image(names: tuple[str, ...]) -> LabeledImage:
    labels = np.array([[0, 1, 2], [-1, 2, 0]], np.int16)
    return LabeledImage(np.zeros((2, 3, 3), np.uint8), labels, np.zeros((2, 3), np.float32), names)


@pytest.mark.parametrize(
    ("names", "values"),
    [(("cat", "dog", "cup"), [[1, 2, 3], [255, 3, 1]]), (("cat", "background", "cup"), [[1, 0, 2], [255, 2, 1]])],
)
def test_voc_png_holds_places_from_1_and_void(names: tuple[str, ...], values: list[list[int]]) -> None:
    read = Image.open(io.BytesIO(voc_png(image(names))))
    assert read.mode == "P"
    assert np.array(read).tolist() == values


def test_voc_palette_begins_with_the_published_colors() -> None:
    published = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert [tuple(color) for color in voc_palette()[:7].tolist()] == published
    assert voc_palette()[20].tolist() == [0, 64, 128]
    assert voc_palette()[255].tolist() == [224, 224, 192]


def test_voc_colors_of_a_png_are_those_of_its_labelmap() -> None:
    read = np.array(Image.open(io.BytesIO(voc_png(image(("cat", "dog", "cup"))))).convert("RGB"))
    lines = [line.split(":") for line in labelmap(("cat", "dog", "cup")).splitlines()[1:]]
    assert [line[0] for line in lines] == ["background", "cat", "dog", "cup", "ignored"]
    assert ",".join(map(str, read[0, 1])) == lines[2][1]


def test_voc_of_too_many_classes_is_refused() -> None:
    assert voc_values([str(index) for index in range(254)])[-1] == 254
    with pytest.raises(UserError, match="maps of Pascal VOC hold 254"):
        voc_values([str(index) for index in range(255)])


def test_voc_xml_has_a_box_around_each_part_but_background() -> None:
    labels = np.full((8, 10), 1, np.int16)
    labels[2:5, 3:7] = 0
    labels[6, 9] = 2
    labels[0, 0] = -1
    result = LabeledImage(
        np.zeros((8, 10, 3), np.uint8), labels, np.zeros((8, 10), np.float32), ("a & b", "Background", "c")
    )
    root = ElementTree.fromstring(voc_xml(result, "x & y.jpg", min_share=0))
    assert root.findtext("filename") == "x & y.jpg"
    assert [root.findtext(f"size/{side}") for side in ("width", "height")] == ["10", "8"]
    boxes = [
        [each.text for each in element.iter() if each.tag in ("name", "xmin", "ymin", "xmax", "ymax")]
        for element in root.iter("object")
    ]
    assert boxes == [["a & b", "4", "3", "7", "5"], ["c", "10", "7", "10", "7"]]
