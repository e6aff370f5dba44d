"""Published sets with semantic label maps.

Every specification describes the set as its own archives unpack. Scores often go wrong at the meaning of label values:
VOC-20, Context-59 and ADE-150 leave value 0 out ("reduce zero label"), VOC-21 and Context-60 keep it as background;
COCO-Stuff's PNGs hold raw ids less one, not the train ids 0-170; Cityscapes' hold labelIds, not train ids. The TIFFs of
PC-459 and ADE-847 hold train ids in 16 bits, so that 255 is a class and 65535 is ignored.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.data.benchmarks.spec import SetSpec, pairs_from_list, pairs_in_subfolders
from clips4.data.class_names import ClassList, load_classes
from clips4.data.label_maps import IGNORE, read_labels
from clips4.data.segmentation_dataset import Pairs, load_label_table, pair_by_name, value_table
from clips4.errors import UserError
from clips4.utils.text import read_text

_FOLDERS = {"val": "validation", "train": "training"}  # as ADE20K calls its splits

# ----------------------------------------------------------------------------------------------------- Pascal VOC


def _voc(root: Path, split: str) -> Pairs:
    root = next((r for r in (root, root / "VOC2012", root / "VOCdevkit/VOC2012") if (r / "JPEGImages").is_dir()), root)
    masks = "SegmentationClassAug" if split == "trainaug" else "SegmentationClass"
    return pairs_from_list(root, root / f"ImageSets/Segmentation/{split}.txt", "JPEGImages", masks)


_VOC_SPLITS = {"val": 1449, "train": 1464, "trainval": 2913, "trainaug": 10582}
_VOC_LAYOUT = (
    "VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation}, and for trainaug SegmentationClassAug "
    "and trainaug.txt (SBD)"
)
_VOC_VALUES = "palette PNGs, 0 background, 1-20 classes, 255 void"

# ------------------------------------------------------------------------------------------------- Pascal Context


def _context(root: Path, split: str) -> Pairs:
    home = next((r for r in (root, root / "VOC2010", root / "VOCdevkit/VOC2010") if (r / "JPEGImages").is_dir()), root)
    if (home / "SegmentationClassContext").is_dir():  # as converted to PNG
        lists = home / f"ImageSets/SegmentationContext/{split}.txt"
        return pairs_from_list(home, lists, "JPEGImages", "SegmentationClassContext")
    return pairs_from_list(home, home / f"ImageSets/Main/{split}.txt", "JPEGImages", "trainval", ".mat")  # as published


def _read_context(path: Path) -> NDArray[np.integer]:
    """(H, W) labels 0-59: of a PNG as stored, of a published .mat by the names of its 459 labels in labels.txt."""
    if path.suffix != ".mat":
        return read_labels(path)
    names = path.parent.parent / "labels.txt"
    if not names.is_file():
        raise UserError(
            f"{names}: no such file; copy it from Pascal Context, since it lists the names of its 459 labels"
        )
    return _context_numbers(names)[_read_mat(path)]


def _read_mat(path: Path) -> NDArray[np.integer]:
    """(H, W) the 459 labels 1-459 of a published .mat; 0 is unlabeled."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return loadmat(path)["LabelMap"]
    except (OSError, KeyError, ValueError, NotImplementedError, MatReadError) as error:
        raise UserError(f"{path}: not a label map of Pascal Context ({type(error).__name__}); copy it again")


@cache
def _context_numbers(names: Path) -> NDArray[np.uint8]:
    """(460,) label of the 459 -> 1-59 in alphabetical order, 0 for the rest."""
    names59 = load_classes("context59").names
    table = np.zeros(460, np.uint8)
    for line in read_text(names).split("\n"):
        number, _, name = line.partition(":")
        if name.strip() in names59:
            table[int(number)] = names59.index(name.strip()) + 1
    if np.count_nonzero(table) != len(names59):
        raise UserError(f"{names}: names {np.count_nonzero(table)} of the 59 classes; give Pascal Context's labels.txt")
    return table


_CONTEXT_SPLITS = {"val": 5105, "train": 4998}
_CONTEXT_LAYOUT = (
    "VOCdevkit/VOC2010/{JPEGImages,ImageSets/Main} with trainval/*.mat and labels.txt as published, or with "
    "SegmentationClassContext/*.png and ImageSets/SegmentationContext"
)
_CONTEXT_VALUES = "0 background, 1-59 the classes in alphabetical order"


def _context_whole(root: Path, split: str) -> Pairs:
    """All 459 labels: TIFFs of ODISE's or of CAT-Seg's conversion, or the published .mat."""
    folder = _FOLDERS[split]
    home = root / "pascal_ctx_d2" if (root / "pascal_ctx_d2").is_dir() else root
    if (home / "annotations_ctx459" / folder).is_dir():
        return pair_by_name(home / "images" / folder, home / "annotations_ctx459" / folder, ".tif")
    home = next((r for r in (root / "VOC2010", root / "VOCdevkit/VOC2010") if r.is_dir()), root)
    if (masks := home / f"annotations_detectron2/pc459_{split}").is_dir():
        return pair_by_name(home / "JPEGImages", masks, ".tif")
    return pairs_from_list(home, home / f"ImageSets/Main/{split}.txt", "JPEGImages", "trainval", ".mat")


def _read_context_whole(path: Path) -> NDArray[np.integer]:
    """(H, W) uint16 0-458, 65535 unlabeled: of a TIFF as stored, of a .mat less one, where 0 becomes 65535."""
    return _read_mat(path).astype(np.uint16) - np.uint16(1) if path.suffix == ".mat" else read_labels(path)


# ----------------------------------------------------------------------------------------------------- COCO-Stuff


def _coco_stuff(root: Path, split: str) -> Pairs:
    folder = f"{split}2017"
    images = next((r for r in (root / "images" / folder, root / folder) if r.is_dir()), root / folder)
    masks = ("stuffthingmaps", "stuffthingmaps_trainval2017", "annotations")
    found = next((root / name / folder for name in masks if (root / name / folder).is_dir()), root / masks[0] / folder)
    if any(path.stem.endswith("_labelTrainIds") for path in found.glob("*_labelTrainIds.png")):
        raise UserError(f"{found}: has *_labelTrainIds.png, another convention; give the published PNGs")
    return pair_by_name(images, found)


def _coco_raw(name: str, classes: ClassList) -> NDArray[np.uint8]:
    """The table of ``labels/NAME.txt``; raw ids without a class are mistakes, which reveal a copy with train ids."""
    table = load_label_table(name, classes)
    mistakes = np.flatnonzero(load_label_table(name, classes) == IGNORE)
    table[mistakes] = len(classes)
    table[IGNORE] = IGNORE
    return table


def _coco_object(classes: ClassList) -> NDArray[np.uint8]:
    """Things are classes 1-80, stuff and what is unlabeled the background, as GroupViT's conversion has it."""
    every = load_classes("coco-stuff171")
    raw = _coco_raw("coco-stuff171", every)
    things = {index: classes.names.index(name) for index, name in enumerate(every.names) if name in classes.names}
    table = np.full(256, len(classes), np.uint8)  # raw ids of no class are mistakes
    for value in np.flatnonzero(raw != len(every)):
        table[value] = things.get(int(raw[value]), 0)
    return table


_COCO_SPLITS = {"val": 5000, "train": 118287}
_COCO_LAYOUT = "{train,val}2017/*.jpg (or in images/) and stuffthingmaps/{train,val}2017/*.png"
_COCO_VALUES = "raw ids less one (0-181, eleven of them unused), 255 unlabeled; not the train ids 0-170"

# ------------------------------------------------------------------------------------------- ADE20K and street scenes


def _ade(root: Path, split: str) -> Pairs:
    root = root / "ADEChallengeData2016" if (root / "ADEChallengeData2016").is_dir() else root
    return pair_by_name(root / "images" / _FOLDERS[split], root / "annotations" / _FOLDERS[split])


def _ade_full(root: Path, split: str) -> Pairs:
    """As Mask2Former's script converts the archive, with sides of at most 512 for the shorter one."""
    name = "ADE20K_2021_17_01"
    home = next((r for r in (root / name, root / "ade" / name) if r.is_dir()), root)
    images, masks = (home / f"{kind}_detectron2" / _FOLDERS[split] for kind in ("images", "annotations"))
    return pair_by_name(images, masks, ".tif")


def _cityscapes(root: Path, split: str) -> Pairs:
    images, masks = root / "leftImg8bit" / split, root / "gtFine" / split
    return pairs_in_subfolders(images, masks, "_leftImg8bit.png", "_gtFine_labelIds.png")


def _cityscapes_table(classes: ClassList) -> NDArray[np.uint8]:
    table = load_label_table("cityscapes", classes)
    table[34:IGNORE] = len(classes)  # labelIds end at 33; 255 is -1, the license plate
    return table


def _camvid(root: Path, split: str) -> Pairs:
    return pair_by_name(root / split, root / f"{split}annot")


def _coco128(root: Path, split: str) -> Pairs:
    return pair_by_name(root / "images", root / "masks")


def _values(first: int, ignored: tuple[int, ...], classes: ClassList) -> NDArray[np.integer]:
    return value_table(range(first, first + len(classes)), ignored)


_CITY_LAYOUT = "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png"
_CITY_VALUES = "labelIds 0-33 (*_gtFine_labelIds.png), not train ids and not the color images"
_CITY_SPLITS = {"val": 500, "train": 2975}

SPECS = (
    SetSpec("voc20", "voc20", _VOC_SPLITS, _voc, partial(_values, 1, (0, IGNORE)), _VOC_LAYOUT, _VOC_VALUES),
    SetSpec("voc21", "voc21", _VOC_SPLITS, _voc, partial(_values, 0, (IGNORE,)), _VOC_LAYOUT, _VOC_VALUES, True),
    *(
        SetSpec(
            name,
            name,
            _CONTEXT_SPLITS,
            _context,
            partial(_values, first, ignored),
            _CONTEXT_LAYOUT,
            _CONTEXT_VALUES,
            background,
            _read_context,
        )
        for name, first, ignored, background in (("context59", 1, (0,), False), ("context60", 0, (), True))
    ),
    SetSpec(
        "pc459",
        "pc459",
        _CONTEXT_SPLITS,
        _context_whole,
        lambda classes: value_table(range(len(classes))),
        "pascal_ctx_d2/{images,annotations_ctx459}/{training,validation} as ODISE converts Pascal Context, VOC2010/{"
        "JPEGImages,annotations_detectron2/pc459_val} as CAT-Seg does, or VOC2010 with trainval/*.mat as published",
        "16-bit TIFFs, 0-458 the labels in the order of labels.txt, 65535 unlabeled; or .mat with 1-459 and 0",
        read=_read_context_whole,
    ),
    *(
        SetSpec(name, name, _COCO_SPLITS, _coco_stuff, partial(_coco_raw, name), _COCO_LAYOUT, _COCO_VALUES)
        for name in ("coco-stuff171", "coco-stuff27")
    ),
    SetSpec(
        "coco-object",
        "coco-object",
        _COCO_SPLITS,
        _coco_stuff,
        _coco_object,
        _COCO_LAYOUT,
        f"{_COCO_VALUES}; things are classes 1-80, all else the background",
        True,
    ),
    SetSpec(
        "ade150",
        "ade150",
        {"val": 2000, "train": 20210},
        _ade,
        partial(_values, 1, (0,)),
        "ADEChallengeData2016/{images,annotations}/{training,validation}",
        "0 no class, 1-150 the classes; 255 does not occur",
    ),
    SetSpec(
        "ade847",
        "ade847",
        {"val": 2000, "train": 25574},
        _ade_full,
        lambda classes: value_table(range(len(classes))),
        "ADE20K_2021_17_01/{images,annotations}_detectron2/{training,validation}, as Mask2Former, ODISE and "
        "CAT-Seg convert the archive",
        "16-bit TIFFs, train ids 0-846, 65535 all else",
    ),
    SetSpec("cityscapes19", "cityscapes19", _CITY_SPLITS, _cityscapes, _cityscapes_table, _CITY_LAYOUT, _CITY_VALUES),
    SetSpec("cityscapes27", "cityscapes27", _CITY_SPLITS, _cityscapes, _cityscapes_table, _CITY_LAYOUT, _CITY_VALUES),
    SetSpec(
        "camvid11",
        "camvid11",
        {"val": 101, "train": 367, "test": 233},
        _camvid,
        partial(_values, 0, (11,)),
        "{train,val,test} and {train,val,test}annot, as SegNet publishes it",
        "0-10 classes, 11 void",
    ),
    SetSpec(
        "coco128",
        "coco128",
        {"val": 100},
        _coco128,
        partial(load_label_table, "coco-panoptic"),
        "images/*.jpg and masks/*.png",
        "COCO panoptic category ids, 0 unlabeled; ids of other classes are not scored",
    ),
)
