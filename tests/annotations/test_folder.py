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
from clips4.outputs import brush_rle
from clips4.outputs.formats.label_studio import label_studio_task
from clips4.outputs.labeled_image import LabeledImage
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


def write_label_studio(folder: Path) -> None:
    """An export of uploads: regions of all kinds, a cancelled annotation, and a task that nobody looked at."""
    photograph().save(folder / "a.jpg")
    photograph(seed=1).save(folder / "b.jpg")

    def region(kind: str, name: str, **value: object) -> dict[str, object]:
        size = {"original_width": WIDTH, "original_height": HEIGHT}
        return {"type": kind, "from_name": "label", "to_name": "image", **size, "value": {**value, kind: [name]}}

    def part(box: tuple[int, int, int, int]) -> dict[str, float]:
        x0, y0, x1, y1 = box
        sides = {"width": (x1 - x0) / WIDTH, "height": (y1 - y0) / HEIGHT, "x": x0 / WIDTH, "y": y0 / HEIGHT}
        return {key: 100 * value for key, value in sides.items()}

    points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners(CAT)]
    x0, y0, x1, y1 = CUP
    whole = np.zeros((HEIGHT, WIDTH), bool)
    whole[y0:y1, x0:x1] = True
    half = {"radiusX": 50 * (x1 - x0) / WIDTH, "radiusY": 50 * (y1 - y0) / HEIGHT}
    middle = {"x": 50 * (x0 + x1) / WIDTH, "y": 50 * (y0 + y1) / HEIGHT}
    # a rectangle turned by a right angle around its corner
    turned = {**part((x1, y0, x1 + y1 - y0, y0 + x1 - x0)), "rotation": 90}
    result = [
        region("rectanglelabels", "cup", **part(CAT)),
        region("polygonlabels", "cat", points=points, closed=True),
        region("ellipselabels", "cat", **middle, **half),
        region("rectanglelabels", "cat", **turned),
        region("brushlabels", "cup", format="rle", rle=brush_rle.encode(whole)),
        region("keypointlabels", "cup", x=1, y=1, width=1),
    ]
    dropped = {"was_cancelled": True, "result": [region("rectanglelabels", "dog", **part((0, 0, 90, 70)))]}
    seen = {"data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": result}, dropped]}
    unseen = {"data": {"image": "b.jpg"}, "annotations": [], "predictions": [{"result": result}]}
    (folder / "project.json").write_text(json.dumps([seen, unseen]))


def write_voc_boxes(folder: Path) -> None:
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir()
    photograph().save(folder / "JPEGImages/a.jpg")
    objects = ""
    for name, (x0, y0, x1, y1) in (("cat", CAT), ("cup", CUP)):
        box = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        objects += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    text = f"<annotation><filename>a.jpg</filename>{size}{objects}</annotation>"
    (folder / "Annotations/a.xml").write_text(text)


WRITERS = [
    *(write_labelme, write_cvat, write_coco, write_coco_counts, write_masks, write_two_folders),
    *(write_label_studio, write_voc_boxes),
]


@pytest.mark.filterwarnings("ignore:.* 1 points, lines and other shapes")
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


def test_open_labels_names_with_any_sign_are_taken_as_they_are(tmp_path: Path) -> None:
    name = 'light: "red", [old] # 2'
    write_labelme(tmp_path)
    path = tmp_path / "b/photo one.json"
    path.write_text(path.read_text().replace('"cat"', json.dumps(name)))
    dataset = open_labels(tmp_path)
    assert dataset.classes.names == ("cup", name)
    np.testing.assert_array_equal(dataset.truth(0), np.where(EXPECTED < 255, 1 - EXPECTED, 255))


def test_open_labels_names_that_differ_in_case_or_accents_are_one(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    path = tmp_path / "b/photo one.json"
    document = json.loads(path.read_text())
    for shape, name in zip(document["shapes"], ("Café", "cat", "cafe\N{COMBINING ACUTE ACCENT}"), strict=True):
        shape["label"] = name
    path.write_text(json.dumps(document))
    np.testing.assert_array_equal(open_labels(tmp_path, load_classes("cat,café")).truth(0), EXPECTED)
    assert len(open_labels(tmp_path).classes) == 2


@pytest.mark.parametrize("colors", [False, True])
def test_open_labels_of_a_labelmap_follow_the_given_classes(tmp_path: Path, colors: bool) -> None:
    """As CVAT and Datumaro (colors) and ``--save voc`` (numbers) write it: background first, void last."""
    for name in ("JPEGImages", "SegmentationClass"):
        (tmp_path / name).mkdir()
    photograph().save(tmp_path / "JPEGImages/a.jpg")
    values = np.array([2, 1, 0], np.uint8)[np.minimum(EXPECTED, 2)]  # cat is 2, cup 1, background 0
    values[0] = 255
    palette = np.zeros((256, 3), np.uint8)
    palette[[1, 2, 255]] = [[128, 0, 0], [0, 128, 0], [224, 224, 192]]
    Image.fromarray(palette[values] if colors else values).save(tmp_path / "SegmentationClass/a.png")
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::", "cup:128,0,0::", "Cat:0,128,0::"]
    listed = tmp_path / "labelmap.txt"
    listed.write_text("\n".join([*lines, "ignored:224,224,192::"]))
    with pytest.warns(UserWarning, match="not among the classes, so not used: background"):
        dataset = open_labels(tmp_path, load_classes("cat,cup"))
    np.testing.assert_array_equal(dataset.truth(0), EXPECTED)
    assert open_labels(tmp_path).classes.names == ("background", "cup", "Cat")
    with pytest.raises(UserError, match="none of the classes"):
        open_labels(tmp_path, load_classes("dog"))
    listed.write_text("\n".join(lines[:-1]))
    if colors:
        with pytest.raises(UserError, match=r"the color \(0, 128, 0\), which labelmap.txt does not name"):
            open_labels(tmp_path).truth(0)
    else:
        assert (open_labels(tmp_path).truth(0)[EXPECTED == 0] == 2).all(), "no class: what scorers refuse"


def test_open_labels_predictions_of_label_studio_are_no_labels(tmp_path: Path) -> None:
    """What ``--save label-studio`` writes, before anybody has looked at it."""
    photograph().save(tmp_path / "a.jpg")
    labels = np.where(EXPECTED < 255, EXPECTED.astype(np.int16), -1)
    result = LabeledImage(
        np.zeros((HEIGHT, WIDTH, 3), np.uint8), labels, np.zeros(labels.shape, np.float32), ("cat", "cup")
    )
    task = label_studio_task(result, str(tmp_path / "a.jpg"), brush=True)
    (tmp_path / "task.json").write_text(json.dumps(task))
    with pytest.raises(UserError, match="no labels there"):
        open_labels(tmp_path)
    (tmp_path / "task.json").write_text(json.dumps({**task, "annotations": task["predictions"]}))
    np.testing.assert_array_equal(open_labels(tmp_path).truth(0), EXPECTED)


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
        (write_label_studio, "project.json", '"rle": [0', '"rle": [1', "a brush mask of 96 x 72 pixels is damaged"),
        (write_label_studio, "project.json", '"rle": [0', '"rle": [300', "is damaged .no bytes"),
        (write_label_studio, "project.json", '"points"', '"spots"', "a region is not understood .KeyError"),
        (write_label_studio, "project.json", '"original_width": 96', '"original_width": 97', "different image sizes"),
        (write_voc_boxes, "Annotations/a.xml", "<xmin>11", "<xmin>", "the points of a shape are no numbers"),
        (write_voc_boxes, "Annotations/a.xml", "<width>96", "<width>", "width is '', no whole number"),
        (write_voc_boxes, "Annotations/a.xml", "<name>cat", "<name>", "object 1: has no name"),
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
