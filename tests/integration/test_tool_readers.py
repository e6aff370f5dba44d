"""Folders of predictions, read by the tools that they are for; a tool that is not installed is skipped, loudly.

supervision comes with the extra ``interop-tests``, rasterio (tests/outputs/test_geotiff.py) with ``geo``. The others
bring PyQt, MongoDB, torchvision, another OpenCV, or a backport of ``typing``: install one into an environment of its
own, with clips4, to run its test.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clips4.inference.jobs.folder import folder_files
from clips4.inference.jobs.segment import segment_images
from clips4.outputs.encode import Kind, image_files
from clips4.outputs.labeled_image import MIN_SHARE, LabeledImage
from clips4.utils.output_folder.output import Output, open_folder, plan
from clips4.utils.progress import NoProgress
from tests.helpers import photograph
from tests.inference.jobs.test_folder import NAMES, QUERY, FakeSegmenter, labels_of

KINDS: list[Kind] = ["png", "coco-polygons", "yolo-copies", "voc", "cvat", "label-studio-brush", "labelme", "fiftyone"]
SIZE = (288, 384)
CLOSE = 0.97  # share of pixels with equal labels where outlines are simplified and small parts left out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images and their predictions in every form: ``in/`` and ``out/``."""
    folder = tmp_path_factory.mktemp("tools")
    (folder / "in").mkdir()
    for seed in range(3):
        photograph(*SIZE, seed).save(folder / f"in/photo{seed}.jpg")
    paths = sorted((folder / "in").iterdir())
    output = Output(folder / "out", "segment", KINDS, "one", False, folder_files(KINDS))
    items = plan(output, paths, paths)
    open_folder(output)
    outcome = segment_images(FakeSegmenter(), QUERY, items, output, True, NoProgress())  # type: ignore[arg-type]
    assert not outcome.skipped
    return folder


def truth(folder: Path, name: str) -> NDArray[np.int16]:
    return labels_of(folder / "in" / Path(name).name)


def without(package: str) -> str:
    return f"{package} is not installed: its own reader does not read our files here"


def painted(masks: Sequence[NDArray[Any]], labels: Sequence[int]) -> NDArray[np.int16]:
    """The label map of masks with class numbers, -1 elsewhere."""
    canvas = np.full(SIZE, -1, np.int16)
    for mask, label in zip(masks, labels, strict=True):
        canvas[np.asarray(mask).astype(bool)] = label
    return canvas


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_supervision_reads_the_predictions(folder: Path, form: str) -> None:
    sv = pytest.importorskip("supervision", reason=without("supervision"))
    out = folder / "out"
    if form == "coco":
        dataset = sv.DetectionDataset.from_coco(str(folder / "in"), str(out / "coco_polygons.json"), force_masks=True)
    elif form == "yolo":
        places = (out / "yolo/images", out / "yolo/labels", out / "yolo/data.yaml")
        dataset = sv.DetectionDataset.from_yolo(*map(str, places), force_masks=True)
    else:
        dataset = sv.DetectionDataset.from_pascal_voc(str(out / "voc/JPEGImages"), str(out / "voc/Annotations"))
    assert len(dataset) == 3
    for path, image, found in dataset:
        expected = truth(folder, path)
        assert image.shape == (*SIZE, 3)
        names = [dataset.classes[number] for number in found.class_id]
        assert set(names) <= set(NAMES)
        if form == "voc":
            for (x0, y0, x1, y1), name in zip(found.xyxy.astype(int).tolist(), names, strict=True):
                inside = expected[max(y0, 0) : y1, max(x0, 0) : x1] == NAMES.index(name)
                assert inside.any(0).mean() > 0.9
                assert inside.any(1).mean() > 0.9, "the box touches its part on all sides"
            continue
        drawn = painted(found.mask, [NAMES.index(name) for name in names])
        assert (drawn == expected).mean() > CLOSE


def test_cityscapes_evaluation_reads_its_label_ids(tmp_path: Path) -> None:
    place, reason = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling", without("cityscapesscripts")
    official = pytest.importorskip(place, reason=reason)
    from cityscapesscripts.helpers.labels import name2label

    names = ("road", "car", "sky", "zebra")
    labels = np.random.default_rng(0).integers(-1, 4, (20, 30)).astype(np.int16)
    result = LabeledImage(np.zeros((20, 30, 3), np.uint8), labels, np.zeros((20, 30), np.float32), names)
    ((name, content),) = image_files(result, "a_leftImg8bit.png", "a", ["cityscapes"]).items()
    path = tmp_path / Path(name).name
    path.write_bytes(content)
    ids = np.array([name2label[each].id for each in names[:3]] + [0, 0])
    official.args.evalInstLevelScore = False
    confusion = official.generateMatrix(official.args)
    counted = official.evaluatePair(str(path), str(path), confusion, {}, {"perImageScores": {}}, official.args)
    assert counted == labels.size
    values, counts = np.unique(ids[labels], return_counts=True)
    assert np.count_nonzero(confusion) == len(values)
    assert confusion[values, values].tolist() == counts.tolist()


@pytest.mark.parametrize(("form", "place"), [("voc_segmentation", "voc"), ("cvat", "cvat"), ("coco", "coco")])
def test_datumaro_reads_the_predictions(folder: Path, tmp_path: Path, form: str, place: str) -> None:
    datumaro = pytest.importorskip("datumaro", reason=without("datumaro"))
    source = folder / "out" / place
    if form in ("cvat", "coco"):
        source = tmp_path / form
        images, file = (
            (source / "images/train", "cvat.xml") if form == "cvat" else (source / "images", "coco_polygons.json")
        )
        images.mkdir(parents=True)
        for path in (folder / "in").iterdir():
            (images / path.name).write_bytes(path.read_bytes())
        target = source / ("train.xml" if form == "cvat" else "annotations/instances_train.json")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((folder / "out" / file).read_bytes())
    dataset = datumaro.Dataset.import_from(str(source), form)
    categories = dataset.categories()[datumaro.AnnotationType.label]
    assert set(NAMES) <= {each.name for each in categories.items}
    assert len(dataset) == 3
    for item in dataset:
        shapes = [each for each in item.annotations if hasattr(each, "image") or hasattr(each, "points")]
        assert shapes
        names = [categories.items[each.label].name for each in shapes]
        assert set(names) <= {"ignored", *NAMES}
        if place == "voc":
            drawn = painted([each.image for each in shapes], [(*NAMES, "ignored").index(name) for name in names])
            np.testing.assert_array_equal(np.where(drawn == len(NAMES), -1, drawn), truth(folder, f"{item.id}.jpg"))


def test_label_studio_decodes_the_brush_masks(folder: Path) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason=without("label-studio-sdk"))
    for path in sorted((folder / "out/label_studio_brush").glob("*.json")):
        regions = json.loads(path.read_text())["predictions"][0]["result"]
        values = [region["value"] for region in regions]
        masks = [np.reshape(brush.decode_rle(value["rle"]), (*SIZE, 4))[..., 3] > 0 for value in values]
        drawn = painted(masks, [NAMES.index(value["brushlabels"][0]) for value in values])
        np.testing.assert_array_equal(drawn, truth(folder, f"{path.stem}.jpg"))


def test_labelme_opens_and_draws_the_predictions(folder: Path) -> None:
    labelme = pytest.importorskip("labelme", reason=without("labelme"))
    for path in sorted((folder / "out/labelme").glob("*.json")):
        file = labelme.LabelFile(str(path))
        values = {name: number for number, name in enumerate(NAMES, 1)} | {"_background_": 0}
        drawn, _ = labelme.utils.shapes_to_label(SIZE, file.shapes, values)
        assert (drawn - 1 == truth(folder, f"{path.stem}.jpg")).mean() > CLOSE


def test_ultralytics_reads_the_data_set(folder: Path) -> None:
    pytest.importorskip("ultralytics", reason=without("ultralytics"))
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(folder / "out/yolo/data.yaml"), autodownload=False)
    dataset = YOLODataset(img_path=data["train"], data=data, task="segment", augment=False)
    assert len(dataset.labels) == 3
    for label in dataset.labels:
        expected = truth(folder, label["im_file"])
        shares = {int(number) for number in label["cls"].ravel()}
        large = {int(n) for n in np.unique(expected[expected >= 0]) if (expected == n).mean() > 2 * MIN_SHARE}
        assert shares == large


def test_fiftyone_imports_the_folder(folder: Path) -> None:
    importers = pytest.importorskip("fiftyone.utils.data.importers", reason=without("fiftyone"))
    # the reader of ``Dataset.from_dir`` alone, which needs no database server
    with importers.ImageSegmentationDirectoryImporter(str(folder / "out/fiftyone"), load_masks=True) as samples:
        found = {path: label.get_mask().astype(int) for path, _, label in samples}
    assert len(found) == 3
    for path, mask in found.items():
        np.testing.assert_array_equal(mask - 1, truth(folder, path))
