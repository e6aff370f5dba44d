"""The sets that the tables of `clips4 reproduce` use: those of the paper, and samples in their place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """A set in one of its roles.

    Attributes:
        dataset: its name, also of a set of videos.
        train, score: splits; "" where the role needs none.
        folds: of unknown classes that the table ``context`` uses.
    """

    dataset: str
    train: str = ""
    score: str = "val"
    folds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sets:
    """The sets of all tables."""

    voc: Choice
    voc_scored: tuple[Choice, ...]
    context: Choice
    stuff: Choice
    clusters: tuple[Choice, ...]
    videos: Choice
    eight: tuple[Choice, ...]


PUBLISHED_SETS = Sets(
    voc=Choice("voc20", "trainaug"),
    voc_scored=(Choice("voc20"), Choice("voc21")),
    context=Choice("context59", "train", folds=(0, 1, 2, 3)),
    stuff=Choice("coco-stuff171", "train"),
    clusters=(Choice("voc21", "train"), Choice("coco-stuff27", "train")),
    videos=Choice("davis17"),
    eight=tuple(
        map(
            Choice,
            (
                *("voc21", "context60", "coco-object", "voc20"),
                *("cityscapes19", "context59", "ade150", "coco-stuff171"),
            ),
        )
    ),
)
_COCO128 = Choice("coco128", "val", folds=(0, 1, 2))
# samples that show the way from end to end where the sets are not at hand; their figures say nothing of the paper's
STAND_INS = Sets(
    voc=_COCO128,
    voc_scored=(_COCO128,),
    context=_COCO128,
    stuff=_COCO128,
    clusters=(Choice("camvid11", "train"),),
    videos=Choice("davis16"),
    eight=(_COCO128, Choice("camvid11", "train")),
)
