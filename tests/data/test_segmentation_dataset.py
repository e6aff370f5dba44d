"""Pictures with label maps."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import load_classes
from clips4.data.label_maps import IGNORE, read_labels
from clips4.data.segmentation_dataset import LabeledFolder, load_label_table, value_table
from clips4.errors import UserError
from clips4.utils.images import turned
from tests.helpers import noise_image

CLASSES, COCO128 = load_classes("coco128"), semantic_spec("coco128")


def miniature(root: Path, size: tuple[int, int] = (6, 8)) -> Path:
    """Two pictures, one of them labelled, laid out as coco128 is."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for stem in ("a", "b"):
        Image.fromarray(noise_image(6, 8)).save(root / "images" / f"{stem}.jpg")
    mask = np.zeros(size, np.uint8)
    mask[0, :3] = (1, 187, 90)  # person, sky, toothbrush
    mask[1] = 188  # cabinet, which is not asked for
    Image.fromarray(mask).save(root / "masks" / "a.png")
    return root


def test_labels_become_class_indices_and_the_rest_is_ignored(tmp_path: Path) -> None:
    dataset = COCO128.load(miniature(tmp_path))
    assert len(dataset) == 1
    ((path, image, truth),) = dataset
    assert path.name == "a.jpg"
    assert image.shape == (6, 8, 3)
    assert [CLASSES.names[label] for label in truth[0, :3]] == ["person", "sky", "toothbrush"]
    assert (truth[1:] == IGNORE).all()
    assert (truth[0, 3:] == IGNORE).all()


def test_frozen_list_is_80_things_and_a_dozen_stuff_names() -> None:
    assert len(CLASSES) == 92
    table = load_label_table("coco-panoptic", CLASSES)
    assert (table != IGNORE).sum() == 92
    assert (table[1:91] != IGNORE).sum() == 80
    assert table[0] == IGNORE


def test_class_without_a_label_value_raises() -> None:
    with pytest.raises(UserError, match="no value for the class 'unicorn'"):
        load_label_table("coco-panoptic", load_classes("cat,unicorn"))


def test_labeled_folder_wrong_layouts_raise(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no label map"):
        COCO128.load(tmp_path)
    root = miniature(tmp_path / "set", size=(5, 8))
    with pytest.raises(UserError, match="is not the size"):
        list(COCO128.load(root))
    (root / "images/a.jpg").unlink()
    with pytest.raises(UserError, match="1 of 1 files are missing, the first a, the image of a label map"):
        COCO128.load(root)


def test_labeled_folder_images_of_one_name_in_two_folders_are_not_guessed(tmp_path: Path) -> None:
    root = miniature(tmp_path / "set")
    (root / "images/old").mkdir()
    Image.fromarray(noise_image(6, 8)).save(root / "images/old/a.jpg")
    assert COCO128.load(root).images == (root / "images/a.jpg",), "the same path"
    (root / "images/a.jpg").rename(root / "images/old/b.jpg")
    assert COCO128.load(root).images == (root / "images/old/a.jpg",), "the only one of this name"
    (root / "images/new").mkdir()
    Image.fromarray(noise_image(6, 8)).save(root / "images/new/a.jpg")
    with pytest.raises(UserError, match=r"no file is called a, and new/a may be meant or not"):
        COCO128.load(root)
    Image.fromarray(noise_image(6, 8)).save(root / "images/a.png")
    Image.fromarray(noise_image(6, 8)).save(root / "images/a.jpg")
    with pytest.raises(UserError, match=r"a\.png: has the same name as .*a\.jpg"):
        COCO128.load(root)


def test_label_maps_are_read_as_stored(tmp_path: Path) -> None:
    values = np.array([[0, 7], [255, 3]], np.uint8)
    palette = Image.fromarray(values)
    palette.putpalette(list(range(255, -1, -1)) * 3)
    palette.save(tmp_path / "p.png")
    assert palette.mode == "P"
    np.testing.assert_array_equal(read_labels(tmp_path / "p.png"), values)
    Image.new("RGB", (2, 2)).save(tmp_path / "rgb.png")
    with pytest.raises(UserError, match="gray or palette"):
        read_labels(tmp_path / "rgb.png")
    (tmp_path / "no.png").write_text("no")
    with pytest.raises(UserError, match="not a label map"):
        read_labels(tmp_path / "no.png")


def test_load_coco128_real_set_has_published_counts() -> None:
    root = Path(os.environ.get("CLIPS4_DATA", Path(__file__).parents[3] / "shared/data")) / "coco128"
    if not root.is_dir():
        pytest.skip(f"coco128 is not there: {root}")
    dataset = COCO128.load(root)
    assert len(dataset) == 100
    present = {int(label) for _, _, truth in dataset for label in np.unique(truth)} - {IGNORE}
    assert 70 <= len(present) <= 92


def _turned_set(folder: Path, orientation: int, mask: NDArray[np.uint8]) -> LabeledFolder:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(folder / "a.jpg", exif=exif)
    Image.fromarray(mask).save(folder / "a.png")
    return LabeledFolder((folder / "a.jpg",), (folder / "a.png",), load_classes("a,b"), value_table(range(2)))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_truth_label_map_of_stored_pixels_is_turned_with_its_image(tmp_path: Path, orientation: int) -> None:
    mask = (np.arange(48).reshape(6, 8) % 5 == 0).astype(np.uint8)
    dataset = _turned_set(tmp_path, orientation, mask)
    expected = turned(mask, orientation)
    ((_, image, truth),) = dataset
    assert image.shape[:2] == truth.shape == (8, 6)
    np.testing.assert_array_equal(truth, expected)
    Image.fromarray(expected).save(tmp_path / "a.png")  # as an editor of displayed pixels saves it
    np.testing.assert_array_equal(dataset.truth(0), expected)


@pytest.mark.parametrize(("orientation", "width"), [(2, 8), (3, 8), (4, 8), (3, 6), (5, 6), (6, 6), (7, 6), (8, 6)])
def test_truth_label_map_that_fits_both_ways_is_as_displayed_with_a_warning(
    tmp_path: Path, orientation: int, width: int
) -> None:
    mask = (np.arange(6 * width).reshape(6, width) % 5 == 0).astype(np.uint8)
    dataset = _turned_set(tmp_path, orientation, mask)
    np.testing.assert_array_equal(dataset.truth(0), mask)
    with pytest.warns(UserWarning, match=r"EXIF turns 1 of 1 images, the first .*a\.jpg"):
        dataset.warn_of_orientation()
