import numpy as np
import pytest

from clips4.annotations.shapes import AnnotatedImage, Shape, box, label_map
from clips4.outputs.polygons import outlines


def test_label_map_of_our_outlines_is_the_mask() -> None:
    rows, columns = np.mgrid[:40, :50]
    mask = (rows - 18) ** 2 + (columns - 25) ** 2 < 200
    polygon, holes = outlines(mask, tolerance=0)
    assert not holes
    labels = label_map(AnnotatedImage("a", 40, 50, [Shape("disk", (polygon,))]), ["disk"])
    np.testing.assert_array_equal(labels == 0, mask)
    assert set(np.unique(labels)) == {0, 255}


def test_label_map_ellipse_is_a_disk_of_pixel_centers() -> None:
    labels = label_map(AnnotatedImage("a", 20, 30, [Shape("o", ellipse=(15.0, 10.0, 6.0, 6.0))]), ["o"])
    rows, columns = np.mgrid[:20, :30] + 0.5
    np.testing.assert_array_equal(labels == 0, (rows - 10) ** 2 + (columns - 15) ** 2 < 36)


@pytest.mark.parametrize(("top", "left"), [(-3, -4), (17, 27), (5, 6), (40, 40)])
def test_label_map_masks_and_boxes_are_cut_at_the_border(top: int, left: int) -> None:
    shapes = [Shape("m", mask=np.ones((6, 7), bool), top=top, left=left)]
    drawn = label_map(AnnotatedImage("a", 20, 30, shapes), ["m"])
    as_box = [Shape("m", (box(left, top, left + 7, top + 6),))]
    np.testing.assert_array_equal(drawn, label_map(AnnotatedImage("a", 20, 30, as_box), ["m"]))


def test_label_map_of_many_classes_has_16_bits() -> None:
    names = [f"n{index}" for index in range(300)]
    labels = label_map(AnnotatedImage("a", 4, 4, [Shape("N299", (box(0, 0, 2, 2),))]), names)
    assert labels.dtype == np.uint16
    assert labels[0, 0] == 299
    assert labels[3, 3] == 65535
