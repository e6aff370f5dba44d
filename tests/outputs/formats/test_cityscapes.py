"""Cityscapes' label ids, read back by the table that our own reader of the data set uses."""

import io

import numpy as np
import pytest
from PIL import Image

from clips4.data.class_names import load_classes
from clips4.data.segmentation_dataset import load_label_table
from clips4.errors import UserError
from clips4.outputs.encode import check_names
from clips4.outputs.formats.cityscapes import ids_of, label_id_png
from clips4.outputs.labeled_image import LabeledImage


def test_label_ids_are_the_published_ones() -> None:
    names = ["road", "sidewalk", "building", "traffic light", "sky", "person", "rider", "car", "train", "bicycle"]
    assert ids_of(names) == [7, 8, 11, 19, 23, 24, 25, 26, 31, 33]


def test_label_ids_come_back_by_the_readers_table() -> None:
    classes = load_classes("cityscapes19")
    labels = np.random.default_rng(0).integers(-1, len(classes), (7, 9)).astype(np.int16)
    result = LabeledImage(np.zeros((7, 9, 3), np.uint8), labels, np.zeros((7, 9), np.float32), classes.names)
    ids = np.array(Image.open(io.BytesIO(label_id_png(result))))
    assert (ids[labels < 0] == 0).all()
    np.testing.assert_array_equal(load_label_table("cityscapes", classes)[ids][labels >= 0], labels[labels >= 0])


def test_classes_that_cityscapes_lacks_are_unlabeled_and_none_at_all_is_refused() -> None:
    assert ids_of(["zebra", "Sky"]) == [0, 23]
    with pytest.raises(UserError, match="none of the 2 classes is one of Cityscapes"):
        check_names(["cityscapes"], ["zebra", "sofa"])
