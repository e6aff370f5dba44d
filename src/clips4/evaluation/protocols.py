"""Protocols of language-driven segmentation: everything that a score depends on beside the model, by one name.

The same model moves by 12 points between two published protocols, so a score without its protocol is worthless.

- ``clips4-v1``: ours. The picture is reduced to the model's own long side and read whole.
- ``sclip``: Wang et al., "SCLIP" (ECCV 2024), as its published configurations set it: short side 336 (Cityscapes 560,
  COCO-Stuff 448), windows of 224 every 112; a pixel has the class of its best word; 80 templates.
- ``tcl``: Cha et al., "TCL" (CVPR 2023), the unified protocol: short side 448, windows of 448 every 224, bare class
  names in the 80 templates. Its background threshold belongs to its own decoder's probabilities; here .4 is applied
  to the softmax over the foreground classes. Windows and threshold are those of two works built on that paper's
  evaluation code; templates differ between such works, and were not checked against the code itself.

All: 255 leaves intersection and union; cosines are upsampled bilinearly (pixel centres) to the window's, then to the
picture's own size, then argmax; the truth is never resized; one confusion matrix over the whole set. A threshold is
applied to sets that have a background class, and never to others.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import ClassList, data_lines, load_classes
from clips4.data.label_maps import IGNORE
from clips4.errors import UserError
from clips4.evaluation.predictions import Truth

V1, SCLIP, TCL = "clips4-v1", "sclip", "tcl"
PROTOCOLS = (V1, SCLIP, TCL)
SCORE_SEMANTIC, SCORE_TRACKING = "clips4-score-semantic-v1", "clips4-score-davis-v1"


@dataclass(frozen=True)
class Background:
    """When a pixel is background (class 0) in a set that has one.

    Attributes:
        threshold: it is where the softmax probability of its best word is below.
        scale: of the cosines in the softmax.
        asked: whether the background's own words are asked too (else only foreground words are in the softmax).
        area: foreground classes with no larger share of a picture's foreground are no answer; 0 switches it off.
    """

    threshold: float
    scale: float
    asked: bool
    area: float = 0.0


@dataclass(frozen=True)
class Protocol:
    """What a language-driven score depends on beside model and set.

    Attributes:
        id: its name.
        short_side: of the picture as read; None reduces it to the model's own long side instead.
        window, stride: of the windows that are read, in pixels; None reads the picture whole.
        class_file: shipped class list, words and all.
        templates: prompt templates.
        aliases: "mean" (a class's words share one vector) or "max" (each word has its own, the best counts).
        background: None for a set without background class.
    """

    id: str
    short_side: int | None
    window: int | None
    stride: int | None
    class_file: str
    templates: str
    aliases: Literal["mean", "max"]
    background: Background | None

    def describe(self) -> dict[str, object]:
        """JSON-ready, with what all protocols share."""
        return {
            **asdict(self),
            "ignore_index": IGNORE,
            "truth": "never resized",
            "upsampling": "bilinear, pixel centres: map -> window -> picture's own size, then argmax",
            "averaging": "IoU per class from one confusion matrix over the set, mean over classes",
        }


def language_protocol(name: str, dataset: str, templates: str) -> Protocol:
    """A protocol as it is for a set.

    Args:
        name: one of ``PROTOCOLS``.
        dataset: name of a semantic set.
        templates: the run's own templates, which clips4-v1 keeps to.

    Raises:
        UserError: no such protocol or set.
    """
    has_background = semantic_spec(dataset).background
    own = semantic_spec(dataset).class_file
    if name == V1:
        rule = Background(threshold=0.1, scale=40, asked=False) if has_background else None
        return Protocol(V1, None, None, None, own, templates, "mean", rule)
    if name == SCLIP:
        sides = {"cityscapes": 560, "coco-stuff": 448}
        side = next((value for prefix, value in sides.items() if dataset.startswith(prefix)), 336)
        rule = None
        if has_background:
            voc = dataset.startswith("voc")
            rule = Background(0.1, 65 if voc else 50, asked=True, area=0.1 if voc else 0.0)
        words = "voc21-sclip" if dataset == "voc21" else own
        return Protocol(SCLIP, side, 224, 112, words, "imagenet-80", "max", rule)
    if name == TCL:
        rule = Background(threshold=0.4, scale=100, asked=False) if has_background else None
        return Protocol(TCL, 448, 448, 224, own, "imagenet-80", "mean", rule)
    raise UserError(f"--protocol {name!r}: there is {', '.join(PROTOCOLS)}")


def class_file_hash(classes: ClassList) -> str:
    """A short fingerprint of the class names and their words, to be stored with every score."""
    text = "\n".join(f"{name}: {', '.join(words)}" for name, words in zip(classes.names, classes.words, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def unknown_classes(dataset: str, fold: int) -> frozenset[str]:
    """Classes that are unknown in a fold: their names are in no prototype and no loss, their pictures stay.

    Raises:
        UserError: no folds for the set, or no such fold.
    """
    shared = {"context60": "context59", "voc21": "voc20"}
    try:
        lines = data_lines(f"folds/{shared.get(dataset, dataset)}.txt")
    except FileNotFoundError:
        raise UserError(f"{dataset}: there are no folds of unknown classes for this set")
    folds = {int(line.partition(":")[0]): line.partition(":")[2] for line in lines}
    if fold not in folds:
        raise UserError(f"--fold {fold}: {dataset} has folds {min(folds)} to {max(folds)}")
    return frozenset(name.strip() for name in folds[fold].split(","))


def known_classes(dataset: str, fold: int) -> ClassList:
    """The class list that a run of a fold is trained with: all but the unknown ones."""
    unknown, own = unknown_classes(dataset, fold), load_classes(semantic_spec(dataset).class_file)
    kept = [index for index, name in enumerate(own.names) if name not in unknown]
    return ClassList(tuple(own.names[i] for i in kept), tuple(own.words[i] for i in kept))


def set_truth(dataset: str, root: Path, split: str | None) -> tuple[Truth, ClassList]:
    """The truth of a named set, for scoring saved predictions."""
    found = semantic_spec(dataset).load(root, split)
    stems = tuple(path.stem for path in found.images)
    return Truth(found.masks, stems, found.table, len(found.classes), found.read), found.classes
