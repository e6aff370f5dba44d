"""Zero-shot classifier: class vectors from class names, with which pixel embeddings are compared.

A class that the run was trained with has its prototype. The text vector of any other class name finds the nearest
segments of the run's bank, as training found the known prototypes, and their mean represents it (CLIP-S4 section 3.3):

    c = normalize( sum of the m segments of the bank nearest to the text vector )

The teacher's segment vectors find the segments; the student's are averaged, if the run kept both. With
``prototypes.per_class=nearest`` a class has several vectors, and the nearest counts: those of its prototype, or the m
segments themselves.

A text vector itself lies far from pixel vectors; it represents a class if the run kept no bank, or if the query demands
it. A query names the source of each class vector.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.data.class_names import ClassList, folded, load_classes
from clips4.errors import UserError
from clips4.inference.refine.background import BackgroundRule
from clips4.method.prototypes import BANK_NEAREST, known_prototypes, with_text_prior
from clips4.models.calibrated_teacher import calibrated
from clips4.models.checkpoint import Prototypes
from clips4.models.class_set import is_class_set, load_class_set
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.models.teachers.text.prompts import load_templates
from clips4.models.teachers.text.text_cache import cached_class_vectors, warn_of_unknown_terms
from clips4.outputs.labeled_image import same_fields
from clips4.utils.progress import notice
from clips4.utils.text import listing

Classes = str | Path | Sequence[str] | ClassList
Vectors = Literal["prototypes", "text"]
Source = Literal["prototype", "bank", "text", "rule", "examples"]

BACKGROUND = "background"
CACHED_NAMES = 50_000  # rows of text vectors kept in memory


@dataclass(frozen=True, eq=False, repr=False)
class Query:
    """The class vectors that every pixel is compared with.

    Attributes:
        vectors: (L, D) unit rows, one for each class or for each of its names.
        owner: (L,) int64, the class of each row, 0..K-1.
        names: (K,) of the classes; empty where their indices are all that is needed.
        sources: (K,) where the vectors of each class come from; empty where that is not known.
        background: which pixels are background, if any.
        background_label: index of the background among the classes; -1 without.
        pixel_vectors: (L', D) pixel prototypes of the same classes or names, among which a pixel is unknown or not;
            None where unknown prototypes compete with ``vectors`` themselves.
        grouped: whether classes compete in a softmax, each by its nearest vector, and not the vectors themselves.
    """

    vectors: Tensor
    owner: Tensor
    names: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    background: BackgroundRule | None = None
    background_label: int = -1
    pixel_vectors: Tensor | None = None
    grouped: bool = False

    @property
    def groups(self) -> Tensor | None:
        """(L,) ``owner`` where classes compete in a softmax, see ``class_scores``; None where vectors do."""
        return self.owner if self.grouped else None

    def __repr__(self) -> str:
        rows, dims = self.vectors.shape
        return f"Query({len(self.names)} classes: {listing(self.names)}; {rows} vectors of {dims} dimensions)"

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    @classmethod
    def one_per_class(cls, vectors: Tensor, names: Sequence[str] = (), sources: Sequence[Source] = ()) -> "Query":
        """A query with a single vector for each class, (K, D) unit rows."""
        return cls(vectors, torch.arange(len(vectors)), tuple(names), tuple(sources))

    @classmethod
    def per_class(cls, vectors: Tensor, classes: int) -> "Query":
        """A query with equally many vectors for each of some classes, class by class, (K * m, D) unit rows."""
        each = len(vectors) // classes
        return cls(vectors, torch.arange(classes).repeat_interleave(each), grouped=each > 1)


class ZeroShotClassifier:
    """Class vectors of any class names, for a run or for a teacher alone; safe to use from several threads.

    Args:
        settings: of the teacher, which is loaded when a name has no vector yet.
        prototypes: of the run, if there is one.
        teacher: if it is already loaded; in the space of the run.

    Attributes:
        examples: class name -> (D,) unit vector of its labeled pixels, which then represents it instead of a prototype.
        retrieved: class name -> (n, D) unit rows from unlabeled images, see ``retrieval``; examples win.
    """

    def __init__(self, settings: TeacherConfig, prototypes: Prototypes | None, teacher: Teacher | None = None):
        self._settings, self._prototypes, self._teacher = settings, prototypes, teacher
        self.examples: dict[str, Tensor] = {}
        self.retrieved: dict[str, Tensor] = {}
        self._rows: dict[tuple[str, ...], Tensor] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        # the text model of a run is loaded again when a new name needs it
        kept = self._teacher if self._prototypes is None else None
        return {**self.__dict__, "_lock": None, "_teacher": kept}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__ |= state
        self._lock = threading.Lock()

    def query(
        self, classes: Classes | None = None, vectors: Vectors = "prototypes", background: BackgroundRule | None = None
    ) -> Query:
        """The class vectors to compare pixels with.

        Args:
            classes: see ``data.class_names.load_classes``; those of the run by default. Or the file of a class set,
                see ``models.class_set``.
            vectors: "prototypes" (new names by the bank) or "text" (text vectors for all).
            background: see ``parse_background``.

        Raises:
            UserError: invalid names, none without a run, or a background name that is a class too.
        """
        if is_class_set(classes):
            given = self._of_set(Path(cast("str | Path", classes)), vectors)
            queried, rows, sources = (
                ClassList(given.names, ((),) * len(given.names)),
                given.vectors,
                list(given.sources),
            )
            owner = given.owner.tolist()
        else:
            queried = self._queried(classes)
            rows, owner, sources = self._vectors(queried, vectors)
        names, grouped = list(queried.names), self.grouped and vectors == "prototypes"
        if background is None:
            named = rows, torch.tensor(owner), tuple(names), tuple(sources)
            return Query(*named, pixel_vectors=self._pixel_vectors(queried, rows, vectors), grouped=grouped)
        at = next((i for i, name in enumerate(names) if name.casefold() == BACKGROUND), None)
        if background.probability is not None and len(names) - (at is not None) < 2:
            raise UserError("background: a single class always has probability 1; give 'cosine 0.2' or class names")
        if at is None:
            at = len(names)
            names.append(BACKGROUND)
            sources.append("rule")
        if background.names:
            others = load_classes(list(background.names))
            both = {name.casefold() for name in others.names} & {name.casefold() for name in queried.names}
            if both:
                raise UserError(f"background: {min(both)!r} is a class too; remove it from one of them")
            more, others_owner, kinds = self._vectors(others, vectors)
            queried = ClassList((*queried.names, *others.names), (*queried.aliases, *others.aliases))
            rows, owner = torch.cat([rows, more]), owner + [at] * len(others_owner)
            if sources[at] == "rule":
                sources[at] = "text" if "text" in kinds else kinds[0]
        pixel_vectors = self._pixel_vectors(queried, rows, vectors)
        return Query(rows, torch.tensor(owner), tuple(names), tuple(sources), background, at, pixel_vectors, grouped)

    def _of_set(self, path: Path, vectors: Vectors) -> Query:
        if vectors != "prototypes":
            raise UserError(f"{path}: a class set has vectors of its own; leave out vectors={vectors!r}")
        found = load_class_set(path, self._prototypes)
        return Query(found.vectors, found.owner, found.names, cast(tuple[Source, ...], found.sources))

    def _pixel_vectors(self, queried: ClassList, rows: Tensor, vectors: Vectors) -> Tensor | None:
        """(L', D) pixel prototypes of names; None in the raw space and of a teacher alone, as in earlier versions."""
        if not self.separates_unknown:
            return None
        return rows if vectors == "prototypes" else self._vectors(queried, "prototypes")[0]

    @property
    def separates_unknown(self) -> bool:
        """Whether queries have ``pixel_vectors``: unknown prototypes do not compete with named classes."""
        run = self._prototypes
        return run is not None and (run.space is not None or bool(run.unknown_margin))

    @property
    def grouped(self) -> bool:
        """Whether classes of a run have several prototypes, of which the nearest counts."""
        return self._prototypes is not None and self._prototypes.per_class == "nearest"

    def text(self, classes: ClassList) -> Tensor:
        """(K, D) text vectors, prompt-ensembled, unit rows; repeated names come from memory."""
        with self._lock:
            if len(self._rows) + len(classes) > CACHED_NAMES:
                self._rows.clear()
            new = list(dict.fromkeys(aliases for aliases in classes.aliases if aliases not in self._rows))
            if new:
                self._teacher = self._teacher or self._load_teacher(new[0][0])
                fresh = ClassList(tuple(aliases[0] for aliases in new), tuple(new))
                warn_of_unknown_terms(self._teacher, fresh)
                rows = cached_class_vectors(self._teacher, fresh, load_templates(self._settings.templates))
                self._rows |= dict(zip(new, rows.float().cpu(), strict=True))
            return torch.stack([self._rows[aliases] for aliases in classes.aliases])

    def _load_teacher(self, name: str) -> Teacher:
        notice(f"loading the text model of {self._settings.name}, once, for the new name {name!r}")
        space = self._prototypes.space if self._prototypes else None
        return calibrated(load_teacher(self._settings), space)

    def _queried(self, classes: Classes | None) -> ClassList:
        if classes is not None:
            return load_classes(classes)
        if self._prototypes is None:
            raise UserError("a teacher without a run has no classes; give some")
        return self._prototypes.classes

    def _vectors(self, queried: ClassList, vectors: Vectors) -> tuple[Tensor, list[int], list[Source]]:
        """(L, D) class by class, the class of each, and the source of each class's."""
        if vectors not in get_args(Vectors):
            raise UserError(f"vectors {vectors!r}: choose prototypes or text")
        known = self._known(queried)
        rows: list[Tensor | None] = [None] * len(queried)
        sources: list[Source] = ["text" if vectors == "text" else "prototype"] * len(queried)
        if self._prototypes:
            own = self._prototypes.query_known if vectors == "prototypes" else self._prototypes.text
            of_each = own.split(len(own) // len(self._prototypes.names))
            rows = [None if index is None else of_each[index] for index in known]
        if vectors == "prototypes":
            given: dict[str, tuple[Tensor, Source]] = {
                **{name.casefold(): (found, "bank") for name, found in self.retrieved.items()},
                **{name.casefold(): (vector[None], "examples") for name, vector in self.examples.items()},
            }
            for place, name in enumerate(queried.names):
                if name.casefold() in given:
                    rows[place], sources[place] = given[name.casefold()]
        new = [place for place, row in enumerate(rows) if row is None]
        if new:
            found = self.text(ClassList(tuple(queried.names[i] for i in new), tuple(queried.aliases[i] for i in new)))
            source: Source = "text"
            run = self._prototypes
            if vectors == "prototypes" and run is not None and run.bank is not None and len(run.bank):
                seen = None if run.query_bank is None else run.query_bank.float()
                own = known_prototypes(found, run.bank.float(), BANK_NEAREST, seen, run.per_class)
                found, source = with_text_prior(own, found, run.text_prior), "bank"
            for place, of_class in zip(new, found.split(len(found) // len(new)), strict=True):
                rows[place], sources[place] = of_class, source
        every = [of_class for of_class in rows if of_class is not None]
        return torch.cat(every), [index for index, each in enumerate(every) for _ in each], sources

    def _known(self, queried: ClassList) -> list[int | None]:
        """The class of the run that each class is: same name and same aliases, or without aliases."""
        if not self._prototypes:
            return [None] * len(queried)
        own = self._prototypes.classes
        place = {name.casefold(): index for index, name in enumerate(own.names)}
        found = []
        for name, aliases in zip(queried.names, queried.aliases, strict=True):
            index = place.get(name.casefold())
            same = index is not None and (
                aliases == (name,) or {*map(folded, aliases)} == {*map(folded, own.aliases[index])}
            )
            found.append(index if same else None)
        return found
