"""The tables that `clips4 reproduce` makes: trainings, scores and rows.

The paper's own tables are not at hand. Rows follow its public description: language-driven segmentation on Pascal VOC,
Pascal Context (known and unknown classes) and COCO-Stuff, unsupervised segmentation, tracking, an ablation of the
losses, and its first figure. Splits, folds and everything else that a score depends on are stated with each score.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from clips4.errors import UserError
from clips4.evaluation.ablation import losses
from clips4.evaluation.reproduce.sets import PUBLISHED_SETS, STAND_INS, Choice, Sets
from clips4.evaluation.run import TASKS

Kind = Literal["language", "unsupervised", "tracking", "figure"]
REFINED = "teacher by text, refined"
PLUS = "objective.mode=maskclip-plus"
UNALIGNED = ("objective.embedding_weight=0", "objective.semantic_weight=0")
_MIOU = {"miou_present": "mIoU", "pixel_accuracy": "pixel acc."}
_FOLDS = {"miou_known": "known", "miou_unknown": "unknown", "miou_present": "all"}
_TRACKING = {"j_and_f": "J&F", "j_mean": "J", "f_mean": "F"}


@dataclass(frozen=True)
class Training:
    """A run: the preset with overrides, on a split of a set without the names of a fold's unknown classes."""

    name: str
    dataset: str
    split: str
    fold: int | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scoring:
    """One evaluation, with its rows; of a training, or without one of the teacher alone.

    Attributes:
        name: of its record.
        kind: which evaluation.
        choice: the set and the split to score.
        training: whose runs are scored, with every seed.
        fold: of unknown classes.
        features: rows of unsupervised segmentation and of tracking.
    """

    name: str
    kind: Kind
    choice: Choice
    training: Training | None = None
    fold: int | None = None
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One row of one scoring's record.

    Attributes:
        scoring: which evaluation.
        row: title of the row in its record.
        fold: whose known and unknown classes are averaged apart; needed where the scoring itself has no fold.
    """

    scoring: Scoring
    row: str
    fold: int | None = None


@dataclass(frozen=True)
class Row:
    """A row: the mean over its sources.

    Attributes:
        key: by which the file of published figures names it.
    """

    key: str
    title: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        name: what the command takes.
        title, about: for the page.
        columns: key of a score -> heading.
        rows: in order.
        figures: scorings of kind "figure", drawn side by side.
    """

    name: str
    title: str
    about: str
    columns: Mapping[str, str]
    rows: tuple[Row, ...] = ()
    figures: tuple[Scoring, ...] = ()

    @property
    def scorings(self) -> list[Scoring]:
        """All evaluations, each once."""
        return list(dict.fromkeys([*(each.scoring for row in self.rows for each in row.sources), *self.figures]))

    @property
    def trainings(self) -> list[Training]:
        """All runs, each once."""
        return list(dict.fromkeys(each.training for each in self.scorings if each.training is not None))


def _language(
    name: str, trained: Choice, scored: Sequence[Choice], folds: Sequence[int | None] = (None,)
) -> tuple[Row, ...]:
    """Teacher rows and ours, for each scored set the mean over the folds."""
    rows = []
    for choice in scored:
        rows += [
            _language_row(name, trained, choice, folds, *spec)
            for spec in (
                ("maskclip", "MaskCLIP", "teacher by text", None),
                ("maskclip-refined", "MaskCLIP, refined", REFINED, None),
                ("maskclip-plus", "MaskCLIP+", "student by text", (PLUS,)),
                ("clips4-text", "CLIP-S4, by text", "student by text", ()),
                ("clips4-prototypes", "CLIP-S4, by prototypes", "student by prototypes", ()),
            )
        ]
    return tuple(rows)


def _language_row(
    name: str,
    trained: Choice,
    scored: Choice,
    folds: Sequence[int | None],
    key: str,
    title: str,
    row: str,
    overrides: tuple[str, ...] | None,
) -> Row:
    sources = []
    for fold in folds:
        if overrides is not None:
            place = "" if fold is None else f"-fold-{fold}"
            variant = "-maskclip-plus" if overrides else ""
            training = Training(f"{name}{variant}{place}", trained.dataset, trained.train, fold, overrides)
            sources.append(
                Source(Scoring(f"{training.name}-on-{scored.dataset}", "language", scored, training, fold), row)
            )
        else:  # a teacher predicts the same in all folds
            sources.append(Source(Scoring(f"teacher-on-{scored.dataset}", "language", scored), row, fold))
    return Row(f"{key}/{scored.dataset}", f"{title} ({scored.dataset})", tuple(sources))


def _voc_training(sets: Sets, name: str = "voc", overrides: tuple[str, ...] = ()) -> Training:
    return Training(name, sets.voc.dataset, sets.voc.train, None, overrides)


def _voc(sets: Sets) -> Table:
    rows = _language("voc", sets.voc, sets.voc_scored)
    about = "Without and with a background class." if sets is PUBLISHED_SETS else ""
    return Table("voc", "Pascal VOC, by class names", about, _MIOU, rows)


def _context(sets: Sets) -> Table:
    rows = _language("context", sets.context, (sets.context,), sets.context.folds)
    about = (
        "Means over the folds. The names of a fold's unknown classes are in no prototype and no loss; at the end all "
        "names are queried. The folds are ours."
    )
    return Table("context", "Pascal Context, known and unknown classes", about, _FOLDS, rows)


def _stuff(sets: Sets) -> Table:
    about = "171 classes." if sets is PUBLISHED_SETS else ""
    return Table("stuff", "COCO-Stuff, by class names", about, _MIOU, _language("stuff", sets.stuff, (sets.stuff,)))


def _unsupervised(sets: Sets) -> Table:
    rows = []
    for choice in sets.clusters:
        training = _voc_training(sets)
        if choice.dataset.startswith("coco"):
            training = Training("stuff", sets.stuff.dataset, sets.stuff.train)
        kinds = ("backbone", "teacher", "student")
        scoring = Scoring(
            f"{training.name}-features-on-{choice.dataset}", "unsupervised", choice, training, None, kinds
        )
        rows += [
            Row(
                f"{kind}-{task}/{choice.dataset}",
                f"{kind} by {task} ({choice.dataset})",
                (Source(scoring, f"{kind} by {task}"),),
            )
            for task in TASKS
            for kind in kinds
        ]
    about = "Clusters matched to the truth, nearest labeled neighbors and a linear probe are three different numbers."
    return Table("unsupervised", "Unsupervised segmentation", about, _MIOU, tuple(rows))


def _tracking(sets: Sets) -> Table:
    kinds, training = ("still", "backbone", "student"), _voc_training(sets)
    scoring = Scoring(f"voc-on-{sets.videos.dataset}", "tracking", sets.videos, training, None, kinds)
    rows = tuple(Row(f"{kind}/{sets.videos.dataset}", kind, (Source(scoring, kind),)) for kind in kinds)
    about = "The first masks travel by similarity of features; 'still' repeats them. The run is that of the table voc."
    return Table("tracking", "Tracking of masks", about, _TRACKING, rows)


def _ablation(sets: Sets) -> Table:
    choice, fold = sets.context, sets.context.folds[0]
    rows = []
    for variant in losses():
        slug = variant.name.lower().replace(" + ", "+")
        name = f"context-fold-{fold}" if not variant.overrides else f"context-fold-{fold}-{slug}"
        training = Training(name, choice.dataset, choice.train, fold, variant.overrides)
        scoring = Scoring(f"{name}-on-{choice.dataset}", "language", choice, training, fold)
        for how in ("text", "prototypes"):
            rows.append(Row(f"{slug}-{how}", f"{variant.name}, by {how}", (Source(scoring, f"student by {how}"),)))
    return Table("ablation", "Losses", f"Fold {fold} of {choice.dataset}.", _FOLDS, tuple(rows))


def _figure(sets: Sets) -> Table:
    figures = tuple(
        Scoring(f"{training.name}-embedding", "figure", sets.voc_scored[0], training)
        for training in (_voc_training(sets, "voc-unaligned", UNALIGNED), _voc_training(sets))
    )
    about = "Text vectors, teacher's and student's pixels in one plane: without alignment (L_t alone), and with it."
    return Table("embedding-figure", "The embedding space", about, {}, (), figures)


def _eight_sets(sets: Sets) -> Table:
    rows = []
    for key, title, row in (
        ("maskclip", "Teacher", "teacher by text"),
        ("maskclip-refined", "Teacher, refined", REFINED),
    ):
        sources = [Source(Scoring(f"teacher-on-{each.dataset}", "language", each), row) for each in sets.eight]
        rows += [
            Row(f"{key}/{s.scoring.choice.dataset}", f"{title} ({s.scoring.choice.dataset})", (s,)) for s in sources
        ]
        rows.append(Row(f"{key}/mean", f"{title}, mean of {len(sources)} sets", tuple(sources)))
    about = (
        "A teacher alone, nothing trained, as papers on dense attention compare it; --set teacher.dense_attention=NAME."
    )
    return Table("eight-sets", "Eight sets, by class names", about, _MIOU, tuple(rows))


_TABLES: dict[str, Callable[[Sets], Table]] = {
    "voc": _voc,
    "context": _context,
    "stuff": _stuff,
    "unsupervised": _unsupervised,
    "tracking": _tracking,
    "ablation": _ablation,
    "embedding-figure": _figure,
    "eight-sets": _eight_sets,
}
NAMES = tuple(_TABLES)


def find_table(name: str, stand_in: bool = False) -> Table:
    """The table of that name, with the published sets or their stand-ins.

    Raises:
        UserError: no such table.

    Example:
        >>> [row.title for row in find_table("tracking").rows]
        ['still', 'backbone', 'student']
    """
    if name not in _TABLES:
        raise UserError(f"{name!r}: no such table; give one of {', '.join(NAMES)}")
    if not stand_in:
        return _TABLES[name](PUBLISHED_SETS)
    table = _TABLES[name](STAND_INS)
    return replace(table, title=f"{table.title} (stand-in sets)")
