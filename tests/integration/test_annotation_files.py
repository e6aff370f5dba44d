"""Files for labelme and CVAT, read back as their exports are."""

import json
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from clips4.annotations.folder import open_labels
from clips4.cli.app import main
from clips4.data.class_names import parse_classes
from clips4.data.label_maps import read_labels
from clips4.outputs.formats.coco import annotations
from clips4.outputs.formats.cvat import cvat_document
from clips4.outputs.formats.labelme import labelme_document
from clips4.outputs.labeled_image import LabeledImage

NAMES = ("cat", 'cup & "saucer" <old>', "grass")


def blocks(seed: int, height: int = 40, width: int = 55) -> LabeledImage:
    """Random blocks with holes, single pixels and parts that touch at corners."""
    random = np.random.default_rng(seed)
    labels = np.kron(random.integers(-1, 3, (height // 5, width // 5)), np.ones((5, 5))).astype(np.int16)
    labels[3:37:7, 4:50:6] = random.integers(-1, 3)
    labels[12, 12] = 1
    return LabeledImage(np.zeros((height, width, 3), np.uint8), labels, np.ones((height, width), np.float32), NAMES)


def read_back(folder: Path) -> NDArray[np.int16]:
    labels = open_labels(folder, parse_classes([f'"{name}"' for name in NAMES])).truth(0).astype(np.int16)
    return np.where(labels == 255, -1, labels)


@pytest.mark.parametrize("seed", range(4))
def test_labelme_document_read_back_is_the_label_map(tmp_path: Path, seed: int) -> None:
    result = blocks(seed)
    Image.fromarray(result.image).save(tmp_path / "a.png")
    document = labelme_document(result, "a.png", min_share=0, tolerance=0)
    assert {shape["shape_type"] for shape in document["shapes"]} == {"polygon"}
    assert (document["imageHeight"], document["imageWidth"]) == result.labels.shape
    (tmp_path / "a.json").write_text(json.dumps(document))
    np.testing.assert_array_equal(read_back(tmp_path), result.labels)


@pytest.mark.parametrize("seed", range(4))
def test_cvat_document_read_back_is_the_label_map(tmp_path: Path, seed: int) -> None:
    result = blocks(seed)
    height, width = result.labels.shape
    found = annotations(result, min_share=0)
    image = {"name": "b\x01 & <c>.png", "width": width, "height": height, "annotations": found}
    text = "".join(cvat_document([image], NAMES))
    root = ElementTree.fromstring(text)
    assert [label.findtext("name") for label in root.iter("label")] == list(NAMES)
    for mask, annotation in zip(root.iter("mask"), found, strict=True):
        counts = [int(run) for run in mask.attrib["rle"].split(",")]
        side = [int(mask.attrib[key]) for key in ("width", "height")]
        # COCO's runs go down columns: those along rows are of the transposed mask
        rle = coco_mask.frPyObjects({"counts": counts, "size": side}, *side)
        left, top = int(mask.attrib["left"]), int(mask.attrib["top"])
        whole = coco_mask.decode(annotation["segmentation"])
        np.testing.assert_array_equal(coco_mask.decode(rle).T, whole[top : top + side[1], left : left + side[0]])
    Image.fromarray(result.image).save(tmp_path / "a.png")
    (written,) = (image.attrib["name"] for image in root.iter("image"))
    assert written == r"b\x01 & <c>.png", "characters that XML cannot hold are escaped"
    (tmp_path / "cvat.xml").write_text(text.replace(quoteattr(written), '"a.png"'))
    np.testing.assert_array_equal(read_back(tmp_path), result.labels)


def test_segment_saves_labelme_and_cvat_that_are_read_back(
    tiny_run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(images, photos / "a b")
    arguments = [
        "segment",
        tiny_run,
        photos,
        "--out",
        out,
        "--save",
        "png,labelme,cvat,coco-polygons",
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["clips4", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    shutil.copy(out / "cvat.xml", photos)
    coco = tmp_path / "coco"
    shutil.copytree(images, coco / "a b")
    shutil.copy(out / "coco_polygons.json", coco)
    # small parts are left out; outlines of polygons are simplified
    for folder, tolerated in ((photos, 0.002), (out / "labelme", 0.02), (coco, 0.02)):
        dataset = open_labels(folder, parse_classes(["cat", "cup", "grass"]))
        assert [path.parent.name for path in dataset.images] == ["a b"] * 3
        for index, path in enumerate(dataset.images):
            predicted = read_labels(out / "a b" / f"{path.stem}.png")
            assert (dataset.truth(index) != predicted).mean() <= tolerated
