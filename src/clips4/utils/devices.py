"""Devices: one of this machine, or one per process that torchrun or Slurm started."""

import logging
import os
from typing import TYPE_CHECKING

import torch

from clips4.errors import UserError

if TYPE_CHECKING:  # only training needs it, and the import takes two seconds
    from lightning_fabric import Fabric


def pick_device(device: str) -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        UserError: it is not available.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        where = torch.device(device)
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UserError(f"device {device!r} is not available here; give auto or cpu")
    return where


def has_bfloat16(device: str) -> bool:
    """Whether the device has instructions for bfloat16; elsewhere it is emulated, slower than float32."""
    where = pick_device(device)
    if where.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return where.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # what oneDNN itself asks


def make_fabric(device: str, precision: str) -> "Fabric":
    """Fabric on one device, or with one rank per process where torchrun or Slurm started several.

    Args:
        device: see ``pick_device``; with several ranks without a number, each takes its own.
        precision: "32-true", "bf16-mixed" or "16-mixed".

    Raises:
        UserError: the device is not available, or one numbered device is given for several ranks.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    # it repeats the precision that was asked for, between the lines of a command
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    where = pick_device(device)
    processes, nodes = launched_processes()
    if processes * nodes == 1:
        devices = 1 if where.index is None else [where.index]
        return Fabric(accelerator=where.type, devices=devices, precision=precision)  # type: ignore[arg-type]
    if where.index is not None:
        raise UserError(f"device {device}: {processes * nodes} processes cannot share it; give {where.type}")
    fabric = Fabric(
        accelerator=where.type,
        devices=processes,
        num_nodes=nodes,
        precision=precision,
        # batch norms keep their statistics, so there are no buffers to broadcast
        strategy=DDPStrategy(broadcast_buffers=False),
    )
    fabric.launch()
    return fabric


def launched_processes() -> tuple[int, int]:
    """Processes per node and nodes, as torchrun or Slurm set them; (1, 1) if neither started this process."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if TorchElasticEnvironment.detect():
        local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        return local, int(os.environ.get("WORLD_SIZE", 1)) // local
    if SLURMEnvironment.detect() and int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        nodes = int(os.environ.get("SLURM_NNODES", 1))
        return int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return 1, 1
