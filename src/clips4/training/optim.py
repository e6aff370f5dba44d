"""The optimizer and its learning rates."""

import torch

from clips4.config import TrainConfig
from clips4.models.student import Embedder


def build_optimizer(student: Embedder, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or SGD with one learning rate for the backbone and one for the head; frozen parameters are left out."""
    groups = [(student.backbone, config.backbone_lr), (student.head, config.lr)]
    trained = [([p for p in module.parameters() if p.requires_grad], rate) for module, rate in groups]
    parts = [{"params": parameters, "lr": rate, "base_rate": rate} for parameters, rate in trained if parameters]
    if config.optimizer == "sgd":
        return torch.optim.SGD(parts, momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(parts, weight_decay=config.weight_decay)


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then polynomial decay, as a factor of the base learning rates."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    return warm * (1 - step / config.steps) ** config.poly_power


def set_learning_rates(optimizer: torch.optim.Optimizer, step: int, config: TrainConfig) -> float:
    """Set the learning rates of a step; returns their factor."""
    factor = learning_rate_factor(step, config)
    for group in optimizer.param_groups:
        group["lr"] = factor * group["base_rate"]
    return factor
