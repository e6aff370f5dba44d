"""Checkpoints of a run: weights and prototypes as safetensors, a JSON card, the optimiser's state beside them.

    RUN/checkpoints/step-00000500/
        student.safetensors   weights of the student, prototypes and text vectors
        card.json             what made them: configuration, class names, teacher, versions, step
        optimiser.pt          what --resume needs; read with weights_only

A checkpoint is written as a folder beside and renamed, so a folder that is there is whole.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clips4.config import Config, parse_config
from clips4.errors import UserError
from clips4.student.embedder import Embedder, empty_student
from clips4.vocabulary import ClassList

FOLDER, WEIGHTS, CARD, OPTIMISER = "checkpoints", "student.safetensors", "card.json", "optimiser.pt"
FORMAT = 1
_STUDENT = "student."


@dataclass(frozen=True)
class Prototypes:
    """Class vectors of a run, unit rows in the teacher's space.

    Attributes:
        classes: the K known classes.
        text: (K, D) prompt-ensembled text vectors.
        known: (K, D) fixed prototypes.
        unknown: (U, D) prototypes of the unknown classes.
    """

    classes: ClassList
    text: Tensor
    known: Tensor
    unknown: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """(K,) names of the known classes."""
        return self.classes.names

    def all(self) -> Tensor:
        """(K + U, D) known, then unknown."""
        return torch.cat([self.known, self.unknown])


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, but for the optimiser's state."""

    path: Path
    step: int
    config: Config
    card: dict[str, Any]
    student: Embedder
    prototypes: Prototypes


def versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    import platform
    from importlib.metadata import version

    packages = ("clips4", "torch", "numpy", "pillow", "scikit-image", "transformers", "kornia")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


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
    optimiser: torch.optim.Optimizer,
    keep: int,
) -> Path:
    """Write the checkpoint of a step, then remove all but the newest ``keep``."""
    final = run / FOLDER / f"step-{step:08d}"
    beside = final.with_name(f".{final.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        tensors = {_STUDENT + key: value for key, value in student.state_dict().items()}
        tensors |= {
            "prototypes.text": prototypes.text,
            "prototypes.known": prototypes.known,
            "prototypes.unknown": prototypes.unknown,
        }
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, beside / WEIGHTS)
        card = {
            "format": FORMAT,
            "step": step,
            "classes": dict(zip(prototypes.names, map(list, prototypes.classes.words), strict=True)),
            "embed_dim": prototypes.known.shape[1],
            "backbone": student.backbone.architecture,
            "config": config.model_dump(mode="json"),
            "versions": versions(),
        }
        (beside / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        torch.save(optimiser.state_dict(), beside / OPTIMISER)
        if final.exists():
            shutil.rmtree(final)
        beside.replace(final)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for old in checkpoint_folders(run)[:-keep]:
        shutil.rmtree(old)
    return final


def load_checkpoint(run: Path) -> Checkpoint:
    """The newest checkpoint of a run (or the one that ``run`` itself is).

    Raises:
        UserError: there is none, or it is damaged.
    """
    folders = [run] if (run / CARD).is_file() else checkpoint_folders(run)
    if not folders:
        raise UserError(f"{run}: no checkpoint there; give the folder that 'clips4 train --out' wrote")
    path = folders[-1]
    try:
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise UserError(f"{path}: format {card['format']} of another version of clips4; this one reads {FORMAT}")
        step = int(card["step"])
        tensors = load_file(path / WEIGHTS)
        config = parse_config(card["config"], str(path / CARD))
        student = empty_student(config.student, card["embed_dim"], card.get("backbone"))
        student.load_state_dict(
            {key.removeprefix(_STUDENT): value for key, value in tensors.items() if key.startswith(_STUDENT)}
        )
        prototypes = Prototypes(
            ClassList(tuple(card["classes"]), tuple(map(tuple, card["classes"].values()))),
            tensors["prototypes.text"],
            tensors["prototypes.known"],
            tensors["prototypes.unknown"],
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).splitlines()[0] if str(error) else ""
        raise UserError(
            f"{path}: damaged checkpoint, or one of another version of clips4 ({type(error).__name__}: {reason}); "
            "remove it to use the one before"
        )
    return Checkpoint(path, step, config, card, student.eval(), prototypes)


def load_optimiser(checkpoint: Checkpoint, optimiser: torch.optim.Optimizer) -> None:
    """Put the saved state into ``optimiser``."""
    path = checkpoint.path / OPTIMISER
    try:
        optimiser.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise UserError(f"{path}: cannot be resumed from ({type(error).__name__}); start anew with another --out")
