"""Checkpoints of a run: weights and prototypes as safetensors, a JSON card, the optimizer's state beside them.

    RUN/checkpoints/step-00000500/
        student.safetensors   weights of the student, prototypes and text vectors
        state.pt              what --resume also needs, e.g. the optimizer's state; read with weights_only
        card.json             what made them: configuration, class names, teacher, versions, step; digests of the files

A checkpoint is written to a temporary folder and renamed. Digests reveal one that was damaged later; the previous one
is used instead.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clips4.config import Config, PerClass, saved_config
from clips4.data.class_names import ClassList
from clips4.errors import UserError
from clips4.method.calibration import SpaceCalibration
from clips4.models.card import FORMAT, Card, check_sizes, parse_card
from clips4.models.pretrained import check_weights, load_exactly
from clips4.models.residual_student import ResidualStudent, empty_student_of
from clips4.models.student import Embedder
from clips4.utils.atomic_io import atomic_folder, remove_folder
from clips4.utils.extras import versions
from clips4.utils.tensors import read_pickled_tensors, read_tensors, write_error, write_tensors
from clips4.utils.text import read_json

FOLDER, WEIGHTS, CARD, STATE = "checkpoints", "student.safetensors", "card.json", "state.pt"
_STUDENT = "student."
_NUMBERS = ("unknown_margin", "head_scale", "text_prior")  # of prototypes; kept where they are not the default
_OPTIONAL = ("bank", "fitted", "student_bank")  # of prototypes; earlier versions kept none


@dataclass(frozen=True, eq=False, repr=False)
class Prototypes:
    """Class vectors of a run, unit rows in the teacher's space.

    Attributes:
        classes: the K known classes.
        text: (K, D) prompt-ensembled text vectors.
        known: (K, D) fixed prototypes; (K * m, D), class by class, where ``per_class`` is "nearest".
        unknown: (U, D) prototypes of the unknown classes.
        bank: (S, D) float16, the teacher's vectors i_s of training segments drawn at random, to find
            prototypes of names that the run was not trained with; None for older runs.
        fitted: (K + U, D), or (K * m + U, D), known, then unknown prototypes fitted to the trained student. None before
            the end of training and where ``extensions.em_iterations`` is 0: the student then uses the teacher's.
        student_bank: (S, D) float16, the student's vectors of the segments of ``bank``; None likewise.
        space: calibration of the teacher's space that all these vectors lie in; None for the raw space.
        unknown_margin: how much nearer to an unknown prototype than to every known one an unknown pixel is.
        head_scale: of a residual student; at 0 it is its teacher, and queried with the teacher's prototypes.
        text_prior: weight of a name's text vector beside its prototype.
        per_class: whether a class has one prototype, "mean", or several of which the nearest counts, "nearest".
    """

    classes: ClassList
    text: Tensor
    known: Tensor
    unknown: Tensor
    bank: Tensor | None = None
    fitted: Tensor | None = None
    student_bank: Tensor | None = None
    space: SpaceCalibration | None = None
    unknown_margin: float = 0.0
    head_scale: float = 1.0
    text_prior: float = 0.0
    per_class: PerClass = "mean"

    def __repr__(self) -> str:
        bank = f"{0 if self.bank is None else len(self.bank)} segments in the bank"
        return f"Prototypes({self.classes}, {len(self.unknown)} unknown, {self.known.shape[1]} dimensions, {bank})"

    @property
    def names(self) -> tuple[str, ...]:
        """(K,) names of the known classes."""
        return self.classes.names

    @property
    def rows_per_class(self) -> int:
        """m, prototypes of each known class."""
        return len(self.known) // len(self.names)

    @property
    def groups(self) -> Tensor | None:
        """(K * m + U,) int64 the class 0..K+U-1 of each row of ``all`` and ``queries``; None where each is a class."""
        if self.per_class == "mean":
            return None
        known = torch.arange(len(self.names)).repeat_interleave(self.rows_per_class)
        return torch.cat([known, len(self.names) + torch.arange(len(self.unknown))])

    @property
    def query_known(self) -> Tensor:
        """(K, D) or (K * m, D) what a student's pixels are compared with for the known classes."""
        return self.known if self._by_teacher or self.fitted is None else self.fitted[: len(self.known)]

    @property
    def query_unknown(self) -> Tensor:
        """(U, D) the same for the unknown ones."""
        return self.unknown if self._by_teacher or self.fitted is None else self.fitted[len(self.known) :]

    @property
    def query_bank(self) -> Tensor | None:
        """(S, D) the vectors of the bank's segments that prototypes of new names are means of; None for ``bank``."""
        return None if self._by_teacher else self.student_bank

    @property
    def _by_teacher(self) -> bool:
        return self.head_scale == 0

    def queries(self) -> Tensor:
        """(K + U, D), or (K * m + U, D), what a student's pixels are compared with: known, then unknown."""
        return torch.cat([self.query_known, self.query_unknown])

    def all(self) -> Tensor:
        """(K + U, D), or (K * m + U, D), known, then unknown."""
        return torch.cat([self.known, self.unknown])


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint, except what only resuming needs; see ``load_state``."""

    path: Path
    step: int
    config: Config
    card: dict[str, Any] = field(repr=False)
    student: Embedder = field(repr=False)
    prototypes: Prototypes


def checkpoints_at(run: Path) -> list[Path]:
    """The checkpoint that ``run`` itself is, or those of a run, oldest first."""
    return [run] if (run / CARD).is_file() else checkpoint_folders(run)


def checkpoint_folders(run: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    folders = (run / FOLDER).glob("step-*") if (run / FOLDER).is_dir() else []
    return sorted(folder for folder in folders if folder.is_dir() and (folder / CARD).is_file())


def save_checkpoint(
    run: Path,
    step: int,
    config: Config,
    student: Embedder,
    prototypes: Prototypes,
    state: Mapping[str, Any],
    keep: int,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write the checkpoint of a step, then remove all but the newest ``keep``.

    Args:
        state: tensors and plain values that resuming needs.
        facts: plain values for the card that are neither configuration nor classes.
    """
    final = run / FOLDER / f"step-{step:08d}"
    with atomic_folder(final) as beside:
        tensors = {_STUDENT + key: value for key, value in student.state_dict().items()}
        tensors |= {
            "prototypes.text": prototypes.text,
            "prototypes.known": prototypes.known,
            "prototypes.unknown": prototypes.unknown,
        }
        for name in _OPTIONAL:
            if (values := getattr(prototypes, name)) is not None:
                tensors[f"prototypes.{name}"] = values
        if prototypes.space is not None:
            tensors |= prototypes.space.tensors()
        for name in _NUMBERS:
            if (number := getattr(prototypes, name)) != getattr(Prototypes, name):
                tensors[f"prototypes.{name}"] = torch.tensor([number], dtype=torch.float64)
        write_tensors(beside / WEIGHTS, tensors)
        try:
            torch.save(dict(state), beside / STATE)
        except RuntimeError as error:  # PyTorch's own words for a full disk
            raise write_error(error, beside / STATE)
        card = {
            "format": FORMAT,
            "step": step,
            "classes": dict(zip(prototypes.names, map(list, prototypes.classes.aliases), strict=True)),
            "embed_dim": prototypes.known.shape[1],
            "bank": 0 if prototypes.bank is None else len(prototypes.bank),
            "backbone": student.backbone.architecture,
            "config": config.model_dump(mode="json"),
            "versions": versions(),
            **(facts or {}),
            "files": {name: _digest(beside / name) for name in (WEIGHTS, STATE)},
        }
        (beside / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    for old in checkpoint_folders(run)[:-keep]:
        remove_folder(old)
    return final


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_checkpoint(run: Path, resuming: bool = False, log: Callable[[str], None] = warnings.warn) -> Checkpoint:
    """The newest undamaged checkpoint of a run, or the checkpoint that ``run`` itself is.

    Args:
        run: folder of a run, or of one checkpoint.
        resuming: whether the file of ``load_state`` must be undamaged too.
        log: called with a message for each damaged checkpoint that was skipped.

    Raises:
        UserError: there is none, or all are damaged.
    """
    folders = checkpoints_at(run)
    if not folders:
        raise UserError(f"{run}: holds no checkpoint; give the folder of a run")
    for path in reversed(folders):
        try:
            return _read(path, (WEIGHTS, STATE) if resuming else (WEIGHTS,))
        except UserError as error:
            if path == folders[0]:
                raise
            log(f"{error}; using the previous checkpoint")
    raise AssertionError("the loop returns or raises")


def _read(path: Path, files: Sequence[str]) -> Checkpoint:
    try:
        values = read_json(path / CARD)
        card = parse_card(values, CARD)
        config = saved_config(card.config, CARD)
        for name in files if card.files else ():
            if not (path / name).is_file() or _digest(path / name) != card.files.get(name):
                raise UserError(f"{name} is missing or changed after it was written")
        tensors = read_tensors(path / WEIGHTS)
        prototypes = prototypes_of(card, config, tensors)
        student = _load_student(card, config, tensors)
        if isinstance(student, ResidualStudent):
            student.head_scale = prototypes.head_scale
            if prototypes.space is not None:
                student.pixel_offset = prototypes.space.pixel_offset
    except (OSError, UserError) as error:
        reason = str(error).removeprefix(f"{path}/")
        raise UserError(f"{path}: damaged checkpoint, or one of another version of clips4 ({reason})")
    return Checkpoint(path, card.step, config, values, student.eval(), prototypes)


def _load_student(card: Card, config: Config, tensors: Mapping[str, Tensor]) -> Embedder:
    """The student of a card with its weights; sizes are compared before memory is taken for them."""
    weights = {key.removeprefix(_STUDENT): value for key, value in tensors.items() if key.startswith(_STUDENT)}
    if not_finite := [key for key, value in weights.items() if not value.isfinite().all()]:
        raise UserError(f"{WEIGHTS}: {_STUDENT}{not_finite[0]} holds values that are not finite")
    try:
        with torch.device("meta"):
            check_weights(empty_student_of(config, card.embed_dim, card.backbone), weights, WEIGHTS)
        student = empty_student_of(config, card.embed_dim, card.backbone)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError, ArithmeticError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{CARD}: its backbone cannot be built ({type(error).__name__})")
    load_exactly(student, weights, WEIGHTS)
    return student


def prototypes_of(card: Card, config: Config, tensors: Mapping[str, Tensor]) -> Prototypes:
    """The class vectors of a card, its configuration, and the tensors beside the student's.

    Raises:
        UserError: one is missing, does not fit the card, or is not finite.
    """
    try:
        per_class = config.prototypes.per_class
        most = config.prototypes.m if per_class == "nearest" else 1
        check_sizes(card, tensors, config.prototypes.unknown, WEIGHTS, most)
        prototypes = Prototypes(
            card.class_list,
            tensors["prototypes.text"],
            tensors["prototypes.known"],
            tensors["prototypes.unknown"],
            **{name: tensors.get(f"prototypes.{name}") for name in _OPTIONAL},  # type: ignore[arg-type]
            space=SpaceCalibration.from_tensors(tensors),
            per_class=per_class,
        )
    except KeyError as error:
        raise UserError(f"{WEIGHTS}: has no {error.args[0]}")
    numbers = {name: float(tensors[key]) for name in _NUMBERS if (key := f"prototypes.{name}") in tensors}
    return replace(prototypes, **numbers)  # type: ignore[arg-type]


def load_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """What ``save_checkpoint`` was given as ``state``.

    Raises:
        UserError: the file is missing or not readable.
    """
    path = checkpoint.path / STATE
    try:
        return dict(read_pickled_tensors(path))
    except (UserError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be resumed ({error}); start a new run in another folder")
