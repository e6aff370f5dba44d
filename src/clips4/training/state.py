"""What training changes from step to step, saved so that a resumed run ends exactly like an uninterrupted one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from clips4.config import Config
from clips4.data.class_names import ClassList
from clips4.data.image_source import ImageShards, Source
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.errors import UserError
from clips4.models.checkpoint import Checkpoint, Prototypes, load_state, save_checkpoint
from clips4.models.student import Embedder
from clips4.utils.cache import content_key, settings_key


@dataclass
class RunState:
    """Everything that differs between two steps of a run.

    Images, views and random numbers are functions of seed and step, and are not kept.

    Attributes:
        student: the network that is trained.
        optimizer: of the student.
        averaged: the moving average of its weights, where one is kept.
        scaler: the loss scale of 16-mixed, where it is used.
        prototypes: of the run; unknown ones at their initial values.
        unknown: (U, D) unknown prototypes, as they are now.
        step: steps done.
        failures: steps in a row, up to now, without an update.
        left_out: steps without an update in total.
    """

    student: Embedder
    optimizer: torch.optim.Optimizer
    averaged: AveragedModel | None
    scaler: torch.amp.GradScaler | None
    prototypes: Prototypes
    unknown: Tensor
    step: int = 0
    failures: int = 0
    left_out: int = 0

    @property
    def result(self) -> Embedder:
        """The student to be used: the average where one is kept."""
        if self.averaged is None:
            return self.student
        assert isinstance(self.averaged.module, Embedder)
        return self.averaged.module

    def current_prototypes(self) -> Prototypes:
        """Known and unknown prototypes as they are now."""
        return replace(self.prototypes, unknown=self.unknown.cpu())

    def save(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        """Write a checkpoint."""
        state = {
            "optimiser": self.optimizer.state_dict(),
            "student": self.student.state_dict() if self.averaged else None,
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "failures": self.failures,
            "left_out": self.left_out,
        }
        now = self.current_prototypes()
        save_checkpoint(run, self.step, config, self.result, now, state, config.train.keep_checkpoints, facts)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Load the state of a checkpoint.

        Raises:
            UserError: it is missing, damaged, or of another student.
        """
        state = load_state(checkpoint)
        try:
            # with an average, the checkpoint's own weights are the average's
            self.student.load_state_dict(state["student"] or checkpoint.student.state_dict())
            self.optimizer.load_state_dict(state["optimiser"])
            if self.averaged:
                self.averaged.load_state_dict(state["averaged"])
            if self.scaler:
                self.scaler.load_state_dict(state["scaler"])
            self.failures, self.left_out = int(state["failures"]), int(state["left_out"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"{checkpoint.path}: its state does not fit the run ({reason}); start a new run")
        self.prototypes, self.unknown = checkpoint.prototypes, checkpoint.prototypes.unknown.to(self.unknown)
        self.step = checkpoint.step


def run_facts(source: Source, config: Config, world: int, labels: LabeledFolder | None = None) -> dict[str, Any]:
    """What weights depend on besides configuration and classes, for the checkpoint's card."""
    streams = isinstance(source, ImageShards)
    labeled = (
        {}
        if labels is None
        else {"labels": settings_key({"keys": [content_key(labels.truth(i).tobytes()) for i in range(len(labels))]})}
    )
    return {
        **labeled,
        "pictures": source.digest,
        "pictures_per_step": config.train.batch * config.train.accumulate * world,
        # shards are distributed over readers, so their number decides the order
        "readers": world * max(1, config.data.workers) if streams else None,
    }


def check_resumable(
    checkpoint: Checkpoint, config: Config, classes: ClassList, facts: dict[str, Any], run: Path
) -> None:
    """Refuse to resume a run whose result would differ from that of an uninterrupted one.

    Raises:
        UserError: other settings, classes, images, images per step, or readers of shards.
    """
    then = checkpoint.card
    if checkpoint.config.decisive() != config.decisive() or checkpoint.prototypes.classes != classes:
        raise UserError(f"{run}: was started with other settings or classes; give the same, or another folder")
    if then.get("pictures") != facts["pictures"]:
        raise UserError(f"{run}: was started with other images; give the same, or another folder")
    if then.get("labels") != facts.get("labels"):
        raise UserError(f"{run}: was started with other labeled images, or none; give the same, or another folder")
    if then.get("pictures_per_step") != facts["pictures_per_step"]:
        raise UserError(
            f"{run}: was started with {then.get('pictures_per_step')} images per step (train.batch times "
            f"train.accumulate times processes), now it is {facts['pictures_per_step']}; set train.batch so that it is "
            "the same"
        )
    if then.get("readers") != facts["readers"]:
        raise UserError(
            f"{run}: was started with {then.get('readers')} readers of shards (processes times data.workers), now it "
            f"is {facts['readers']}; set data.workers so that it is the same"
        )
