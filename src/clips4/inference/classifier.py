"""Words into vectors: what a pixel embedding is compared with when classes are asked for.

A class that the run was trained with has its prototype. For any other word its text vector finds the nearest segments
of the run's bank, as training found the known prototypes, and their mean stands for it (CLIP-S4 section 3.3):

    c = normalise( sum of the m segments of the bank nearest to the text vector )

Found by what the teacher sees in the segments, averaged over what the student sees in them, where the run kept both.

A text vector itself lies far from pixels; it is used where a run kept no bank, or where it is asked for. Each answer
says which of these it came by.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.data.class_names import ClassList, load_classes
from clips4.errors import UserError
from clips4.method.prototypes import known_prototypes
from clips4.models.checkpoint import Prototypes
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.models.teachers.prompts import load_templates
from clips4.models.teachers.text_cache import cached_class_vectors

Classes = str | Path | Sequence[str] | ClassList
Vectors = Literal["prototypes", "text"]
Source = Literal["prototype", "bank", "text", "rule"]

BACKGROUND = "background"
BANK_NEAREST = 8  # m; 4 to 32 are alike, 1 is worse (docs/journal.md)
SHARPNESS = 40.0  # of the softmax of a background probability, as in protocol clips4-v1
_CACHED_WORDS = 50_000  # rows of text vectors held in memory


@dataclass(frozen=True)
class BackgroundRule:
    """Which pixels are background. Rules combine: a pixel that meets one of them is background.

    Attributes:
        names: pixels nearest to one of these class names.
        probability: pixels whose class has a lower softmax probability among the queried ones, in (0, 1).
        cosine: pixels whose similarity to their class is lower, in (-1, 1).
        scale: multiplies the cosines in the softmax.
        queried: whether the background's own vectors take part in the softmax; evaluation protocols may differ.
        min_share: classes with no larger share of an image's foreground are not predicted; 0 predicts all. Only
            evaluation protocols use it.
    """

    names: tuple[str, ...] = ()
    probability: float | None = None
    cosine: float | None = None
    scale: float = SHARPNESS
    queried: bool = True
    min_share: float = 0.0


@dataclass(frozen=True)
class Query:
    """The class vectors that every pixel is compared with.

    Attributes:
        vectors: (L, D) unit rows, one for each class or for each of its names.
        owner: (L,) int64, the class of each row, 0..K-1.
        names: (K,) of the classes; empty where their indices are all that is needed.
        sources: (K,) where the vectors of each class come from; empty where that is not known.
        background: which pixels are background, if any.
        background_label: index of the background among the classes; -1 without.
    """

    vectors: Tensor
    owner: Tensor
    names: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    background: BackgroundRule | None = None
    background_label: int = -1

    @classmethod
    def one_per_class(cls, vectors: Tensor, names: Sequence[str] = (), sources: Sequence[Source] = ()) -> "Query":
        """A query with a single vector for each class, (K, D) unit rows."""
        return cls(vectors, torch.arange(len(vectors)), tuple(names), tuple(sources))


def parse_background(given: "BackgroundRule | float | str | Sequence[str] | None") -> BackgroundRule | None:
    """A background in any form.

    Args:
        given: a probability; a string "0.4" (a probability), "cosine 0.2" or "wall, sky"; a sequence of words; or None.

    Raises:
        UserError: a threshold out of range, or no word.
    """
    if given is None or isinstance(given, BackgroundRule):
        rule = given
    elif isinstance(given, (int, float)):
        rule = BackgroundRule(probability=float(given))
    elif isinstance(given, str):
        head, _, tail = given.strip().replace("=", " ").partition(" ")
        if _number(given) is not None:
            rule = BackgroundRule(probability=_number(given))
        elif head.lower() == "cosine" and _number(tail) is not None:
            rule = BackgroundRule(cosine=_number(tail))
        else:
            rule = BackgroundRule(names=tuple(word.strip() for word in given.split(",")))
    else:
        rule = BackgroundRule(names=tuple(str(word).strip() for word in given))
    if rule is None:
        return None
    if rule.probability is not None and not 0 < rule.probability < 1:
        raise UserError(f"background {rule.probability}: give a probability between 0 and 1, 'cosine 0.2', or words")
    if rule.cosine is not None and not -1 < rule.cosine < 1:
        raise UserError(f"background cosine {rule.cosine}: give a cosine between -1 and 1")
    if not rule.queried or rule.min_share:
        raise UserError("background: `queried` and `min_share` are for evaluation protocols; leave them out")
    if (not rule.names and rule.probability is None and rule.cosine is None) or not all(rule.names):
        raise UserError("background: give a probability as 0.4, a cosine as 'cosine 0.2', or words as 'wall, sky'")
    return rule


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class ZeroShotClassifier:
    """Vectors of any words, for one run or one teacher alone; safe to be used by several threads.

    Args:
        settings: of the teacher, which is loaded when a word is met that has no vector yet.
        prototypes: of the run, if there is one.
        teacher: where it is loaded already.
    """

    def __init__(self, settings: TeacherConfig, prototypes: Prototypes | None, teacher: Teacher | None = None):
        self._settings, self._prototypes, self._teacher = settings, prototypes, teacher
        self._rows: dict[tuple[str, ...], Tensor] = {}
        self._lock = threading.Lock()

    def query(
        self, classes: Classes | None = None, vectors: Vectors = "prototypes", background: BackgroundRule | None = None
    ) -> Query:
        """What to compare pixels with.

        Args:
            classes: see ``vocabulary.load_classes``; the run's own by default.
            vectors: "prototypes" (new words by the bank) or "text" (all by their text alone).
            background: see ``parse_background``.

        Raises:
            UserError: wrong names, none where there is no run, or a background that is asked for as a class, too.
        """
        asked = self._asked(classes)
        rows, sources = self._vectors(asked, vectors)
        names, owner = list(asked.names), list(range(len(asked)))
        if background is None:
            return Query.one_per_class(rows, names, sources)
        at = next((i for i, name in enumerate(names) if name.casefold() == BACKGROUND), None)
        if background.probability is not None and len(names) - (at is not None) < 2:
            raise UserError(
                "background: one class alone is always certain, so that a probability says nothing; give "
                "'cosine 0.2' or words"
            )
        if at is None:
            at = len(names)
            names.append(BACKGROUND)
            sources.append("rule")
        if background.names:
            words = load_classes(list(background.names))
            both = {name.casefold() for name in words.names} & {name.casefold() for name in asked.names}
            if both:
                raise UserError(f"background: {min(both)!r} is asked for as a class, too; leave it out of one")
            more, kinds = self._vectors(words, vectors)
            rows, owner = torch.cat([rows, more]), owner + [at] * len(words)
            if sources[at] == "rule":
                sources[at] = "text" if "text" in kinds else kinds[0]
        return Query(rows, torch.tensor(owner), tuple(names), tuple(sources), background, at)

    def text(self, classes: ClassList) -> Tensor:
        """(K, D) text vectors, prompt-ensembled, unit rows; those met before come from memory."""
        with self._lock:
            if len(self._rows) + len(classes) > _CACHED_WORDS:
                self._rows.clear()
            new = list(dict.fromkeys(words for words in classes.words if words not in self._rows))
            if new:
                self._teacher = self._teacher or load_teacher(self._settings)
                fresh = ClassList(tuple(words[0] for words in new), tuple(new))
                rows = cached_class_vectors(self._teacher, fresh, load_templates(self._settings.templates))
                self._rows |= dict(zip(new, rows.float().cpu(), strict=True))
            return torch.stack([self._rows[words] for words in classes.words])

    def _asked(self, classes: Classes | None) -> ClassList:
        if classes is not None:
            return load_classes(classes)
        if self._prototypes is None:
            raise UserError("a teacher alone has no classes of its own; give --classes")
        return self._prototypes.classes

    def _vectors(self, asked: ClassList, vectors: Vectors) -> tuple[Tensor, list[Source]]:
        if vectors not in get_args(Vectors):
            raise UserError(f"class vectors are by 'prototypes' or 'text', not {vectors!r}")
        known = self._known(asked)
        rows: list[Tensor | None] = [None] * len(asked)
        sources: list[Source] = ["text" if vectors == "text" else "prototype"] * len(asked)
        if self._prototypes:
            own = self._prototypes.query_known if vectors == "prototypes" else self._prototypes.text
            rows = [None if index is None else own[index] for index in known]
        new = [place for place, row in enumerate(rows) if row is None]
        if new:
            found = self.text(ClassList(tuple(asked.names[i] for i in new), tuple(asked.words[i] for i in new)))
            source: Source = "text"
            run = self._prototypes
            if vectors == "prototypes" and run is not None and run.bank is not None and len(run.bank):
                seen = None if run.student_bank is None else run.student_bank.float()
                found, source = known_prototypes(found, run.bank.float(), BANK_NEAREST, seen), "bank"
            for place, row in zip(new, found, strict=True):
                rows[place], sources[place] = row, source
        return torch.stack([row for row in rows if row is not None]), sources

    def _known(self, asked: ClassList) -> list[int | None]:
        """Which class of the run each asked one is: the same name with the same words, or with none but itself."""
        if not self._prototypes:
            return [None] * len(asked)
        own = self._prototypes.classes
        place = {name.casefold(): index for index, name in enumerate(own.names)}
        found = []
        for name, words in zip(asked.names, asked.words, strict=True):
            index = place.get(name.casefold())
            same = index is not None and (words == (name,) or _folded(words) == _folded(own.words[index]))
            found.append(index if same else None)
        return found


def _folded(words: Sequence[str]) -> set[str]:
    return {word.casefold() for word in words}
