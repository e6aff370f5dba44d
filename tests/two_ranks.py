"""Functions run on two gloo ranks, whose results come back through files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn


def on_two_ranks(work: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """What ``work(rank, *arguments)`` returns on each of two ranks, made of tensors and plain values."""
    folder.mkdir(parents=True, exist_ok=True)
    spawn(_run, (work, str(folder), arguments), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _run(rank: int, work: Callable[..., Any], folder: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        torch.save(work(rank, *arguments), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
