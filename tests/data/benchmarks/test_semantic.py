"""Every published set in miniature: what its label values mean (traps 3 and 4), and the real ones where they are."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips4.data.benchmarks.registry import SEMANTIC, semantic_spec
from clips4.data.class_names import load_classes
from clips4.data.label_maps import IGNORE, WIDE_IGNORE, ignore_value
from clips4.errors import UserError
from clips4.evaluation.metrics.confusion import confusion_matrix
from tests.data.benchmarks import miniatures
from tests.helpers import shared

CASES: list[tuple[str, Callable[[Path], Path], list[str | None]]] = [
    ("voc20", miniatures.voc, [None, "aeroplane", "tvmonitor", None]),
    ("voc21", miniatures.voc, ["background", "aeroplane", "tvmonitor", None]),
    ("context59", miniatures.context, [None, "aeroplane", "bag", "wood"]),
    ("context60", miniatures.context, ["background", "aeroplane", "bag", "wood"]),
    ("context59", miniatures.context_as_published, [None, "aeroplane", "bag", "wood"]),
    ("context60", miniatures.context_as_published, ["background", "aeroplane", "bag", "wood"]),
    ("pc459", miniatures.context_of_odise, [None, "accordion", "monkey", "unknown object", "wool"]),
    ("pc459", miniatures.context_of_cat_seg, [None, "accordion", "monkey", "unknown object", "wool"]),
    ("pc459", miniatures.context_whole_as_published, [None, "accordion", "monkey", "unknown object", "wool"]),
    ("coco-stuff171", miniatures.coco_stuff, ["person", "toothbrush", "banner", "wood", None]),
    ("coco-stuff27", miniatures.coco_stuff, ["person", "indoor", "textile", "solid", None]),
    ("ade150", miniatures.ade, [None, "wall", "flag"]),
    ("ade847", miniatures.ade_full, [None, "wall", "pier", "shanties", "adding machine"]),
    ("cityscapes19", miniatures.cityscapes, [None, "road", None, "bicycle", None]),
    ("cityscapes27", miniatures.cityscapes, [None, "road", "parking", "bicycle", None]),
    ("camvid11", miniatures.camvid, ["sky", "bicyclist", None]),
]


@pytest.mark.parametrize(("name", "make", "expected"), CASES)
def test_label_values_mean_what_they_should(
    tmp_path: Path, name: str, make: Callable[[Path], Path], expected: list[str | None]
) -> None:
    dataset = semantic_spec(name).load(make(tmp_path))
    for _, image, truth in dataset:
        assert image.shape[:2] == truth.shape == (miniatures.HEIGHT, miniatures.WIDTH)
        order = list(dict.fromkeys(truth[0].tolist()))
        ignored = ignore_value(len(dataset.classes))
        wanted = [ignored if label is None else dataset.classes.names.index(label) for label in expected]
        assert order == list(dict.fromkeys(wanted))


def test_class_files_have_the_published_numbers_of_classes() -> None:
    counts = {name: len(load_classes(spec.class_file)) for name, spec in SEMANTIC.items()}
    assert counts == {
        "voc20": 20,
        "voc21": 21,
        "context59": 59,
        "context60": 60,
        "pc459": 459,
        "coco-stuff171": 171,
        "coco-stuff27": 27,
        "coco-object": 81,
        "ade150": 150,
        "ade847": 847,
        "cityscapes19": 19,
        "cityscapes27": 27,
        "camvid11": 11,
        "coco128": 92,
    }
    assert {name for name, spec in SEMANTIC.items() if spec.background} == {"voc21", "context60", "coco-object"}
    for name, spec in SEMANTIC.items():
        assert spec.background == (load_classes(spec.class_file).names[0] == "background"), name


def test_trap_3_zero_label_is_dropped_or_kept(tmp_path: Path) -> None:
    root = miniatures.voc(tmp_path)
    dropped, kept = (next(iter(semantic_spec(name).load(root)))[2] for name in ("voc20", "voc21"))
    assert ((dropped == IGNORE) & (kept == 0)).sum() == (kept == 0).sum() > 0
    foreground = (kept != 0) & (kept != IGNORE)
    assert np.array_equal(dropped[foreground] + 1, kept[foreground])


def test_trap_4_train_ids_of_coco_stuff_are_refused(tmp_path: Path) -> None:
    """Train id 11 is a stop sign; as a raw id less one it is none, so a set of train ids betrays itself."""
    root = miniatures.coco_stuff(tmp_path, [11, 170])
    dataset = semantic_spec("coco-stuff171").load(root)
    with pytest.raises(ValueError, match=r"expected 0\.\.170"):
        confusion_matrix(dataset.truth(0), dataset.truth(0), 171)
    (root / "stuffthingmaps/val2017/000000000139.png").rename(
        root / "stuffthingmaps/val2017/000000000139_labelTrainIds.png"
    )
    with pytest.raises(UserError, match="another convention"):
        semantic_spec("coco-stuff171").load(root)


def test_trap_4_things_come_before_stuff() -> None:
    names = load_classes("coco-stuff171").names
    assert (names[0], names[79], names[80], names[170]) == ("person", "toothbrush", "banner", "wood")
    table = semantic_spec("coco-stuff171").table(load_classes("coco-stuff171"))
    classes = table[table < 171]
    assert np.array_equal(classes, np.arange(171)), "each train id once, in the order of the raw ids"
    assert np.flatnonzero(table == 171)[:11].tolist() == [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]


def test_coco_object_has_things_before_a_background_of_stuff_and_unlabeled(tmp_path: Path) -> None:
    dataset = semantic_spec("coco-object").load(miniatures.coco_stuff(tmp_path))
    names = dataset.classes.names
    assert (len(names), names[0], names[1], names[80]) == (81, "background", "person", "toothbrush")
    assert list(dict.fromkeys(dataset.truth(0)[0].tolist())) == [1, 80, 0], "0, 89, 91, 181 and 255"
    table = dataset.table
    assert np.array_equal(table[(table > 0) & (table < 81)], np.arange(1, 81)), "each thing once, in order"
    assert np.flatnonzero(table == 81)[:11].tolist() == [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]


def test_pc459_is_the_published_order_of_labels() -> None:
    names = load_classes("pc459").names
    some = {0: "accordion", 29: "board", 307: "pottedplant", 430: "unknown object", 458: "wool"}
    assert {index: names[index] for index in some} == some
    published = [name if name != "unknown object" else "unknown" for name in names]
    swapped = [b for a, b in pairwise(published) if a > b]
    assert swapped == ["cello", "fishbowl", "pencil", "swimmingpool", "watermelon"], "alphabetical but for these"
    assert set(load_classes("context59").names) <= set(names)


def test_ade847_is_the_order_of_train_ids_with_distinct_names() -> None:
    """Train ids of a few categories, as the conversion's table has them."""
    classes = load_classes("ade847")
    some = {0: "wall", 99: "aircraft carrier", 241: "track", 796: "andiron", 803: "videocassette recorder"}
    assert {index: classes.names[index] for index in some} == some
    bags = [name for name, words in zip(classes.names, classes.aliases, strict=True) if words[0] == "bag"]
    assert bags == ["bag", "traveling bag", "handbag"]
    assert all(name in words for name, words in zip(classes.names, classes.aliases, strict=True))


def test_label_maps_of_16_bits_keep_255_as_a_class(tmp_path: Path) -> None:
    for name, make in (("pc459", miniatures.context_of_odise), ("ade847", miniatures.ade_full)):
        truth = semantic_spec(name).load(make(tmp_path / name)).truth(0)
        assert truth.dtype == np.uint16
        counts = confusion_matrix(truth, truth, len(load_classes(name)))
        assert counts[255, 255] > 0
        assert counts.sum() == (truth != WIDE_IGNORE).sum() < truth.size


def test_label_maps_of_8_bits_are_refused_where_255_may_be_a_class(tmp_path: Path) -> None:
    root = miniatures.ade_full(tmp_path)
    mask = root / "ADE20K_2021_17_01/annotations_detectron2/validation/ADE_val_00000001.tif"
    Image.fromarray(miniatures.columns([0, 255])).save(mask)
    with pytest.raises(UserError, match="may be class 255 or an ignored pixel"):
        semantic_spec("ade847").load(root).truth(0)


def test_augmented_split_has_labels_of_its_own(tmp_path: Path) -> None:
    dataset = semantic_spec("voc21").load(miniatures.voc(tmp_path), "trainaug")
    assert [mask.parent.name for mask in dataset.masks] == ["SegmentationClassAug"]


def test_what_is_missing_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give one of voc20, voc21"):
        semantic_spec("voc22")
    with pytest.raises(UserError, match="no such folder"):
        semantic_spec("voc21").load(tmp_path / "no")
    with pytest.raises(UserError, match=r"val\.txt: no such file .*layout of"):
        semantic_spec("voc21").load(tmp_path)
    root = miniatures.voc(tmp_path)
    with pytest.raises(UserError, match="no split 'test'"):
        semantic_spec("voc21").load(root, "test")
    (root / "VOCdevkit/VOC2012/SegmentationClass/2007_000042.png").unlink()
    with pytest.raises(UserError, match="names 2 images, 1 files are missing"):
        semantic_spec("voc21").load(root)
    with pytest.raises(UserError, match="same classes in the same order"):
        semantic_spec("ade150").load(miniatures.ade(tmp_path), classes=load_classes("a,b"))
    cities = miniatures.cityscapes(tmp_path / "city")
    (cities / "leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png").unlink()
    with pytest.raises(UserError, match=r"1 of \d+ files are missing"):
        semantic_spec("cityscapes19").load(cities)
    with pytest.raises(UserError, match=r"no label map \(\*\.tif\).*layout of ade847"):
        semantic_spec("ade847").load(tmp_path)
    published = miniatures.context_as_published(tmp_path / "context")
    (published / "VOC2010/labels.txt").unlink()
    with pytest.raises(UserError, match="lists the names of its 459 labels"):
        semantic_spec("context59").load(published).truth(0)


def test_other_names_for_the_same_classes(tmp_path: Path) -> None:
    dataset = semantic_spec("voc21").load(miniatures.voc(tmp_path), classes=load_classes("voc21-sclip"))
    assert len(dataset.classes.aliases[0]) == 26


def test_load_real_sets_have_the_published_counts() -> None:
    camvid = semantic_spec("camvid11").load(shared("camvid"))
    assert len(camvid) == 101
    values = np.unique(np.concatenate([np.unique(camvid.truth(index)) for index in range(0, 101, 10)]))
    assert values.tolist() == [*range(11), IGNORE]
    assert len(semantic_spec("coco128").load(shared("coco128"))) == 100
