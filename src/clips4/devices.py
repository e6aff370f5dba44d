"""Where the networks run."""

import torch

from clips4.errors import UserError


def pick_device(device: str) -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        UserError: it is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        where = torch.device(device)
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UserError(f"--device {device!r} is not available here; give auto or cpu")
    return where
