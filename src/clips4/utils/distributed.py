"""Collective operations of the ranks of a training run. With one process each function returns its input.

All ranks call these functions in the same order. Ranks may have different numbers of rows; they are concatenated in the
order of ranks, as one process would have them.
"""

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def world_size() -> int:
    """Number of ranks, 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, 0 without torch.distributed."""
    return dist.get_rank() if world_size() > 1 else 0


def counts(*values: int, device: torch.device) -> Tensor:
    """(ranks, n) whole numbers of every rank, on the host."""
    mine = torch.tensor(values, dtype=torch.int64, device=device)
    if world_size() == 1:
        return mine[None].cpu()
    every = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(every, mine)
    return torch.stack(every).cpu()


def total(x: Tensor) -> Tensor:
    """The sum over ranks; no gradient flows through it."""
    if world_size() == 1:
        return x
    summed = x.detach().clone()
    dist.all_reduce(summed)
    return summed


def gather_objects(x: T) -> list[T]:
    """The objects of all ranks, in the order of ranks; for small objects, outside the training loop."""
    if world_size() == 1:
        return [x]
    every: list[T] = [x] * world_size()
    dist.all_gather_object(every, x)
    return every


def gather_rows(x: Tensor, rows: list[int]) -> Tensor:
    """(S_r, ...) of each rank -> (S, ...) of all, on every rank.

    The gradient of a rank's rows is the sum of the gradients on all ranks.

    Args:
        x: this rank's rows.
        rows: S_r of each rank, as ``counts`` returns it.
    """
    return x if world_size() == 1 else _GatherRows.apply(x, rows)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: list[int]) -> Tensor:
        ctx.rows = rows
        # all_gather needs the same size on every rank
        padded = x.new_zeros(max(rows), *x.shape[1:])
        padded[: len(x)] = x
        every = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(every, padded)
        return torch.cat([part[:count] for part, count in zip(every, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        summed = slope.contiguous().clone()
        dist.all_reduce(summed)
        return summed.split(ctx.rows)[rank()], None
