"""Reduction of a loss over its elements."""

from typing import Literal

from torch import Tensor

Reduction = Literal["mean", "sum", "none"]


def reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    """Mean, sum or none; the mean of nothing is 0, with a gradient of 0, so that an empty batch changes no weight."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is 'mean', 'sum' or 'none', got {reduction!r}")
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" or not losses.numel() else losses.mean()
