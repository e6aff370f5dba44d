"""Protocols of language-driven segmentation: everything except the model that a score depends on, under one name.

The scores of one model differ by 12 points between two published protocols, so a score without its protocol is
worthless.

- ``clips4-v1``: ours. The image is reduced to the model's own long side and encoded whole.
- ``sclip``: Wang et al., "SCLIP" (ECCV 2024), as its published configurations set it: short side 336 (Cityscapes 560,
  COCO-Stuff 448), windows of 224 every 112; a pixel has the class of its best synonym; 80 templates.
- ``tcl``: Cha et al., "TCL" (CVPR 2023), the unified protocol: short side 448, windows of 448 every 224, bare class
  names in the 80 templates. Its background threshold applies to the probabilities of its own decoder; here .4 applies
  to the softmax over the foreground classes. Windows and threshold are those of two works built on that paper's
  evaluation code; templates differ between such works, and were not checked against the code itself.

In all of them 255 (65535 with more than 255 classes) counts in neither intersection nor union; cosines are upsampled
bilinearly (pixel centers) to the size of the window, then of the original image, then comes the argmax; the truth is
never resized; there is one confusion matrix over the whole set. Only sets with a background class have a threshold.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import ClassList, builtin_class_files, data_lines, load_classes
from clips4.data.label_maps import ignore_value
from clips4.data.pairs import names_of
from clips4.errors import UserError
from clips4.evaluation.predictions import Truth

if TYPE_CHECKING:
    from clips4.inference.refine.background import BackgroundRule

V1, SCLIP, TCL = "clips4-v1", "sclip", "tcl"
PROTOCOLS = (V1, SCLIP, TCL)
SCORE_SEMANTIC, SCORE_TRACKING = "clips4-score-semantic-v1", "clips4-score-davis-v1"


@dataclass(frozen=True)
class Protocol:
    """What a language-driven score depends on, apart from model and set.

    Attributes:
        id: its name.
        short_side: to which the image is resized, in pixels; None reduces it to the model's own long side instead.
        window, stride: of the windows that are encoded, in pixels; None encodes the image whole.
        class_file: shipped class list, with synonyms.
        templates: prompt templates.
        aliases: "mean" (the synonyms of a class share one vector) or "max" (each has its own, the best counts).
        background: which pixels are of class 0, the background; None for a set without background class.
    """

    id: str
    short_side: int | None
    window: int | None
    stride: int | None
    class_file: str
    templates: str
    aliases: Literal["mean", "max"]
    background: "BackgroundRule | None"

    def describe(self) -> dict[str, object]:
        """JSON-ready, with what all protocols have in common."""
        rule = self.background
        return {
            **asdict(self),
            "background": rule
            and {
                "threshold": rule.probability,
                "scale": rule.scale,
                "asked": rule.queried,
                "area": rule.min_share,
            },
            "ignore_index": ignore_value(len(load_classes(self.class_file))),
            "truth": "never resized",
            "upsampling": "bilinear, pixel centres: map -> window -> picture's own size, then argmax",
            "averaging": "IoU per class from one confusion matrix over the set, mean over classes",
        }


def language_protocol(name: str, dataset: str, templates: str) -> Protocol:
    """The protocol of a name, for a set.

    Args:
        name: one of ``PROTOCOLS``.
        dataset: name of a semantic set.
        templates: of the run; clips4-v1 uses them, the others have their own.

    Raises:
        UserError: an unknown protocol or set.
    """
    from clips4.inference.refine.background import BackgroundRule  # which loads torch; scores of saved maps do without

    has_background = semantic_spec(dataset).background
    own = semantic_spec(dataset).class_file
    if name == V1:
        rule = BackgroundRule(probability=0.1, scale=40, queried=False) if has_background else None
        return Protocol(V1, None, None, None, own, templates, "mean", rule)
    if name == SCLIP:
        sides = {"cityscapes": 560, "coco-stuff": 448}
        side = next((value for prefix, value in sides.items() if dataset.startswith(prefix)), 336)
        rule = None
        if has_background:
            voc = dataset.startswith("voc")
            rule = BackgroundRule(probability=0.1, scale=65 if voc else 50, min_share=0.1 if voc else 0.0)
        names = f"{own}-sclip" if f"{own}-sclip" in builtin_class_files() else own
        return Protocol(SCLIP, side, 224, 112, names, "imagenet-80", "max", rule)
    if name == TCL:
        rule = BackgroundRule(probability=0.4, scale=100, queried=False) if has_background else None
        return Protocol(TCL, 448, 448, 224, own, "imagenet-80", "mean", rule)
    raise UserError(f"--protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")


def class_file_hash(classes: ClassList) -> str:
    """A short hash of the class names and their synonyms, which is stored with every score."""
    text = "\n".join(f"{name}: {', '.join(words)}" for name, words in zip(classes.names, classes.aliases, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def unknown_classes(dataset: str, fold: int) -> frozenset[str]:
    """Classes that are unknown in a fold: no prototype and no loss uses their names; their images are used.

    Raises:
        UserError: the set has no folds, or not this one.
    """
    shared = {"context60": "context59", "voc21": "voc20"}
    try:
        lines = data_lines(f"folds/{shared.get(dataset, dataset)}.txt")
    except FileNotFoundError:
        raise UserError(f"{dataset}: this set has no folds of unknown classes; leave out --fold")
    folds = {int(line.partition(":")[0]): line.partition(":")[2] for line in lines}
    if fold not in folds:
        raise UserError(f"--fold {fold}: {dataset} has folds {min(folds)} to {max(folds)}; choose one of them")
    return frozenset(name.strip() for name in folds[fold].split(","))


def known_classes(dataset: str, fold: int) -> ClassList:
    """The class list to train a run of a fold with: all classes but the unknown ones."""
    unknown, own = unknown_classes(dataset, fold), load_classes(semantic_spec(dataset).class_file)
    kept = [index for index, name in enumerate(own.names) if name not in unknown]
    return ClassList(tuple(own.names[i] for i in kept), tuple(own.aliases[i] for i in kept))


def training_set(
    dataset: str, root: Path, split: str | None = None, fold: int | None = None
) -> tuple[list[Path], ClassList]:
    """The images of a split to train on, and the names to train with; no label is read.

    Args:
        dataset, root: of a semantic set.
        split: by default ``train``.
        fold: whose unknown classes are left out of the names; their images stay.

    Returns:
        Paths, and the set's classes without its background and without the fold's unknown ones.

    Raises:
        UserError: an unknown set, split or fold, or files that are missing.

    Example:
        >>> paths, classes = training_set("context59", Path("VOC2010"), "train", fold=0)
    """
    spec = semantic_spec(dataset)
    found = spec.load(root, split or "train")
    classes = known_classes(dataset, fold) if fold is not None else load_classes(spec.class_file)
    first = 1 if spec.background else 0  # a background is what has no name
    return list(found.images), ClassList(classes.names[first:], classes.aliases[first:])


def set_truth(dataset: str, root: Path, split: str | None) -> tuple[Truth, ClassList]:
    """The truth and the classes of a named set, to score saved predictions."""
    found = semantic_spec(dataset).load(root, split)
    return Truth(
        found.masks, names_of(found.images), found.table, len(found.classes), found.read, found.images
    ), found.classes
