"""The ranks of a job: what torchrun or Slurm say of them, and their collective operations in a training run.

With one process each collective function returns its input.

All ranks call these functions in the same order. Ranks may have different numbers of rows; they are concatenated in the
order of ranks, as one process would have them.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from clips4.errors import UserError

T = TypeVar("T")


class Share(NamedTuple):
    """The part of a job that this process does, without a process group.

    Attributes:
        rank: number of this process.
        ranks: number of processes.
        local: its number on this machine, by which it takes a GPU.
    """

    rank: int = 0
    ranks: int = 1
    local: int = 0

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Every n-th item.

        Example:
            >>> Share(1, 3).of("abcdefgh")
            'beh'
        """
        return items[self.rank :: self.ranks]

    def device(self, name: str) -> str:
        """The device of that name for this process: several on one machine take a GPU each."""
        several = self.ranks > 1 and name in ("auto", "cuda") and torch.cuda.is_available()
        return f"cuda:{self.local % torch.cuda.device_count()}" if several else name


def launched_share(variables: Mapping[str, str] = os.environ) -> Share:
    """The share of this process if torchrun or srun started it among others, by their environment variables.

    Raises:
        UserError: a variable is no number, or out of range.
    """
    for rank, ranks, local in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),  # of srun; a batch script is no task
    ):
        if rank in variables and ranks in variables:
            try:
                share = Share(int(variables[rank]), int(variables[ranks]), int(variables.get(local, 0)))
            except ValueError:
                share = Share(-1)
            if not 0 <= share.rank < share.ranks:
                raise UserError(f"{rank}={variables[rank]}, {ranks}={variables[ranks]}: not a rank; unset them")
            return share
    return Share()


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
