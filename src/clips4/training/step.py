"""One step of training: batches forward and backward, then an update of weights and unknown prototypes."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clips4.data.loader import Batch
from clips4.data.rng import STEP, seeded
from clips4.errors import UserError
from clips4.method.objective import Terms, objective
from clips4.method.prototypes import update_unknown
from clips4.training.optim import set_learning_rates
from clips4.training.setup import Run
from clips4.utils import distributed


class StepValues(NamedTuple):
    """Means of one step over its batches and all ranks: the objective, L_t, L_e, L_s, and the gradient's norm."""

    loss: float
    contrast: float
    embedding: float
    semantic: float
    norm: float


class StepResult(NamedTuple):
    """What one step did.

    Attributes:
        values: losses and gradient norm.
        lr_factor: learning rates of the step, as a factor of the configured ones.
        interrupted: whether Ctrl-C was pressed, on any rank.
        names: of this rank's images.
    """

    values: StepValues
    lr_factor: float
    interrupted: bool
    names: list[str]


def training_step(run: Run, batches: Iterator[Batch], interrupted: Callable[[], bool]) -> StepResult:
    """``train.accumulate`` batches forward and backward, then one update of weights and unknown prototypes."""
    config, state, fabric = run.config, run.state, run.fabric
    torch.manual_seed(seeded(config.train.seed, STEP, state.step).initial_seed())
    lr_factor = set_learning_rates(state.optimizer, state.step, config.train)
    in_loss = state.unknown if config.extensions.unknown_in_loss else state.unknown[:0]
    prototypes = torch.cat([run.known, in_loss])
    terms: list[Terms] = []
    names: list[str] = []
    for part in range(config.train.accumulate):
        batch = next(batches)
        names += batch.names
        if config.train.compile == "cuda-graphs":  # the call alone loads the compiler, most of a second
            torch.compiler.cudagraph_mark_step_begin()  # outputs of earlier batches may be replaced
        with fabric.no_backward_sync(run.model, enabled=part + 1 < config.train.accumulate):
            terms.append(losses(run, batch, prototypes))
            fabric.backward(terms[-1].total / config.train.accumulate)
    norm = fabric.clip_gradients(
        run.model, run.optimizer, max_norm=config.train.max_grad_norm, error_if_nonfinite=False
    )
    values, stop = _reduce(terms, norm, interrupted())
    update(run, values, torch.cat([t.guidance for t in terms]))
    return StepResult(values, lr_factor, stop, names)


def losses(run: Run, batch: Batch, prototypes: Tensor) -> Terms:
    """The objective of one batch.

    Args:
        run: whose model embeds the views.
        batch: B images, V views each.
        prototypes: (K + U, D) known and unknown class prototypes, or (K * m + U, D); the unknown ones may be left out.
    """
    images, regions, pixel_map, drawn = (run.fabric.to_device(tensor) for tensor in batch[:4])
    settings, space, groups = run.config.objective, run.state.prototypes.space, run.state.prototypes.groups
    return objective(
        run.model(images),
        regions,
        pixel_map,
        prototypes,
        settings if space is None else space.scale_objective(settings),
        run.config.segments,
        drawn,
        progress=run.state.step / run.config.train.steps,
        text=run.text,
        extensions=run.config.extensions,
        text_temperature=None if space is None else space.text_temperature(settings.temperature),
        groups=None if groups is None else groups[: len(prototypes)],
    )


def update(run: Run, values: StepValues, guidance: Tensor) -> None:
    """Update weights, their average and unknown prototypes; a step that is not finite changes none of them."""
    state = run.state
    finite = all(map(math.isfinite, values))
    scaled = state.scaler is not None  # the scaler lowers its scale when it sees gradients that are not finite
    if finite or scaled:
        run.optimizer.step()
    if finite:
        settings = run.config.prototypes
        state.unknown = update_unknown(
            state.unknown, run.known, guidance, settings.unknown_step, settings.unknown_update
        )
        if state.averaged:
            state.averaged.update_parameters(state.student)
    run.optimizer.zero_grad()
    state.step += 1
    state.left_out += not finite
    state.failures = 0 if finite or (scaled and math.isfinite(values.loss)) else state.failures + 1


def report_nonfinite(run: Run, step: StepResult) -> None:
    """Warn of a step that was not finite.

    Raises:
        UserError: ``train.max_nonfinite_steps`` in a row.
    """
    state = run.state
    if not state.failures:
        return
    what = "the gradient" if math.isfinite(step.values.loss) else "the loss"
    problem = (
        f"step {state.step}: {what} was not finite, {state.failures} times in a row; the step is left out. If it "
        f"happens again, lower train.lr or train.backbone_lr, or check these images: {', '.join(step.names)}"
    )
    if state.failures >= run.config.train.max_nonfinite_steps:
        raise UserError(problem)
    run.progress.log(problem)


def _reduce(terms: Sequence[Terms], norm: Tensor | None, interrupted: bool) -> tuple[StepValues, bool]:
    """Means over all batches and ranks, and whether any rank was interrupted, in one transfer from the device."""
    parts = torch.stack([torch.stack([t.total, t.contrast, t.embedding, t.semantic]) for t in terms]).detach().mean(0)
    assert norm is not None
    own = torch.cat([parts, norm.to(parts)[None], parts.new_tensor([float(interrupted)])])
    *values, stop = (distributed.total(own) / distributed.world_size()).tolist()
    return StepValues(*values), stop > 0
