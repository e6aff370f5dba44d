"""Labels of annotation tools as label maps: every format shows the same two areas of the same image."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from clips4.annotations.folder import open_labels
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from tests.helpers import photograph

HEIGHT, WIDTH = 72, 96
# cat: columns 10 to 39 of rows 5 to 24; cup: columns 50 to 69 of rows 30 to 59
CAT, CUP = (10, 5, 40, 25), (50, 30, 70, 60)
EXPECTED: NDArray[np.uint8] = np.full((HEIGHT, WIDTH), 255, np.uint8)
EXPECTED[5:25, 10:40] = 0
EXPECTED[30:60, 50:70] = 1


def corners(box: tuple[int, int, int, int]) -> list[list[float]]:
    x0, y0, x1, y1 = map(float, box)
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def cup_mask() -> NDArray[np.bool_]:
    return np.ones((30, 20), bool)


def write_labelme(folder: Path) -> None:
    (folder / "b").mkdir()
    photograph().save(folder / "b/photo one.jpg")
    buffer = io.BytesIO()
    Image.fromarray(cup_mask()).save(buffer, "PNG")
    shapes = [
        {"label": "cup", "points": corners(CAT), "shape_type": "polygon"},  # covered by the next
        {"label": "cat", "points": [[10, 5], [40, 25]], "shape_type": "rectangle"},
        {
            "label": "cup",
            "points": [[50, 30], [69, 59]],
            "shape_type": "mask",
            "mask": base64.b64encode(buffer.getvalue()).decode(),
        },
    ]
    document: dict[str, object] = {"version": "5.5.0", "flags": {}, "shapes": shapes}
    document |= {"imagePath": "photo one.jpg", "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    (folder / "b/photo one.json").write_text(json.dumps(document))
    (folder / "b/notes.json").write_text("[1, 2]")  # something else


def write_cvat(folder: Path) -> None:
    (folder / "images").mkdir()
    photograph().save(folder / "images/a.png")
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(CAT))
    text = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta/>
  <image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">
    <polygon label="cat" source="manual" occluded="0" points="{points}" z_order="1"></polygon>
    <box label="cup" occluded="0" xtl="10.00" ytl="5.00" xbr="40.00" ybr="25.00" z_order="0"></box>
    <mask label="cup" occluded="0" rle="0, 600" left="50" top="30" width="20" height="30" z_order="0"></mask>
  </image>
  <image id="1" name="not_labeled.png" width="{WIDTH}" height="{HEIGHT}"></image>
</annotations>"""
    (folder / "annotations.xml").write_text(text)


def write_coco(folder: Path) -> None:
    (folder / "train").mkdir()
    photograph().save(folder / "train/a.jpg")
    whole = np.zeros((HEIGHT, WIDTH), np.uint8)
    whole[30:60, 50:70] = 1
    encoded = coco_mask.encode(np.asfortranarray(whole))
    rle = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    document = {
        "images": [{"id": 7, "file_name": "train/a.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 40,
                "segmentation": [[value for pair in corners(CAT) for value in pair]],
            },
            {"id": 2, "image_id": 7, "category_id": 3, "segmentation": rle, "iscrowd": 1},
        ],
        "categories": [{"id": 3, "name": "cup"}, {"id": 40, "name": "cat"}],
    }
    (folder / "annotations.json").write_text(json.dumps(document))


def write_coco_counts(folder: Path) -> None:
    write_coco(folder)
    path = folder / "annotations.json"
    document = json.loads(path.read_text())
    counts = [50 * HEIGHT + 30, *([30, 42] * 19), 30, HEIGHT - 60 + (WIDTH - 70) * HEIGHT]
    document["annotations"][1]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": counts}
    path.write_text(json.dumps(document))


def write_masks(folder: Path) -> None:
    photograph().save(folder / "A.JPG", "JPEG")
    Image.fromarray(EXPECTED).save(folder / "A.png")
    (folder / "classes.txt").write_text("cat\ncup\n")


def write_two_folders(folder: Path) -> None:
    for name in ("images/x", "labels/x"):
        (folder / name).mkdir(parents=True)
    photograph().save(folder / "images/x/a.png")
    Image.fromarray(EXPECTED).save(folder / "labels/x/a.png")
    (folder / "data.yaml").write_text("names: {0: cat, 1: cup}\n")


WRITERS = [write_labelme, write_cvat, write_coco, write_coco_counts, write_masks, write_two_folders]


@pytest.mark.parametrize("write", WRITERS)
def test_open_labels_of_every_format_gives_the_same_label_map(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    ((path, image, truth),) = open_labels(tmp_path)
    assert path.is_file()
    assert image.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(truth, EXPECTED)


@pytest.mark.parametrize("write", [write_labelme, write_cvat, write_coco])
def test_open_labels_with_classes_has_their_order_and_warns_of_others(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path)
    with pytest.warns(UserWarning, match="not among the classes, so not used: cat"):
        dataset = open_labels(tmp_path, load_classes("dog,Cup"))
    np.testing.assert_array_equal(dataset.truth(0), np.where(EXPECTED == 1, 1, 255))
    with pytest.raises(UserError, match="labels cat, cup, none of the classes"):
        open_labels(tmp_path, load_classes("dog,bird"))
    background = open_labels(tmp_path, load_classes("background,cat,cup")).truth(0)
    np.testing.assert_array_equal(background, (EXPECTED + 1) * (EXPECTED < 255))


def test_open_labels_of_voc_has_its_classes(tmp_path: Path) -> None:
    for name in ("JPEGImages", "SegmentationClass"):
        (tmp_path / name).mkdir()
    photograph().save(tmp_path / "JPEGImages/a.jpg")
    photograph(seed=1).save(tmp_path / "JPEGImages/b.jpg")
    values = np.where(EXPECTED == 0, 8, 0).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "SegmentationClass/a.png")
    dataset = open_labels(tmp_path)
    assert dataset.classes.names[8] == "cat"
    np.testing.assert_array_equal(dataset.truth(0), values)


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("write", "file", "old", "new", "problem"),
    [
        (write_labelme, "b/photo one.json", '"cat", "points"', '"cat", "spots"', "its points are no list of pairs"),
        (write_labelme, "b/photo one.json", '"rectangle"', '"spline"', "'spline' of 2 points is not understood"),
        (write_labelme, "b/photo one.json", "photo one.jpg", "gone.jpg", "labels of .*gone.jpg, but there is no such"),
        (write_labelme, "b/photo one.json", '"imageHeight": 72', '"imageHeight": "x"', "imageHeight is 'x'"),
        (write_labelme, "b/photo one.json", '"imageHeight": 72', '"imageHeight": 71', r"\(71, 96\) is not the size"),
        (write_labelme, "b/photo one.json", '"imageWidth": 96', '"imageWidth": 96000000', "too many"),
        (write_cvat, "annotations.xml", "10.00,5.00;", "10.00,nan;", "all finite"),
        (write_cvat, "annotations.xml", "<meta/>", "<track/>", "CVAT for video"),
        (write_cvat, "annotations.xml", "0, 600", "0, 601", "more pixels than its box"),
        (write_cvat, "annotations.xml", "</annotations>", "", "not readable as XML"),
        (write_cvat, "annotations.xml", "<annotations>", "<!DOCTYPE a><annotations>", "declares a document type"),
        (write_coco, "annotations.json", '"category_id": 40', '"category_id": 41', "KeyError 41"),
        (write_coco, "annotations.json", '"size": [72', '"size": [73', "a mask of size"),
        (write_coco_counts, "annotations.json", "[3630", "[3631", "do not add up"),
        (write_coco, "annotations.json", "[[10.0, 5.0, 40.0, 5.0,", "[[10.0, 5.0, 40.0,", "3.5 points"),
    ],
)
def test_open_labels_damaged_files_are_one_line(
    write: Callable[[Path], None], file: str, old: str, new: str, problem: str, tmp_path: Path
) -> None:
    write(tmp_path)
    spoil(tmp_path / file, old, new)
    with pytest.raises(UserError, match=problem) as caught:
        for _ in open_labels(tmp_path):
            pass
    assert "\n" not in str(caught.value)


def test_open_labels_without_labels_names_the_formats(tmp_path: Path) -> None:
    photograph().save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="no labels there; give labelme, CVAT or COCO files"):
        open_labels(tmp_path)
    Image.fromarray(EXPECTED).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"label maps hold numbers; give the class names, or put them in classes\.txt"):
        open_labels(tmp_path)


def test_open_labels_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path)
    spoil(tmp_path / "annotations.json", "train/a.jpg", "a.jpg")
    (tmp_path / "test").mkdir()
    photograph().save(tmp_path / "test/a.jpg")
    with pytest.raises(UserError, match="2 images have this name"):
        open_labels(tmp_path)
