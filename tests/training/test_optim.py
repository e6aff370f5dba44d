"""Optimizers, their schedule, and the recipe of the preset paper."""

import pytest
import torch

from clips4.config import ExtensionConfig, StudentConfig, TrainConfig, load_config
from clips4.models.student import Embedder, MultiScaleHead, build_student
from clips4.training.optim import build_optimizer, learning_rate_factor, set_learning_rates


@pytest.fixture
def student() -> Embedder:
    return build_student(StudentConfig(weights="random", width=16), 4)


def test_sgd_takes_the_steps_of_its_equation(student: Embedder) -> None:
    """v <- momentum v + (g + decay w), w <- w - rate v; the head and the backbone with their own rates."""
    config = TrainConfig(optimizer="sgd", momentum=0.8, weight_decay=0.01, lr=0.1, backbone_lr=0.03, warmup=0, steps=10)
    optimizer = build_optimizer(student, config)
    assert isinstance(optimizer, torch.optim.SGD)
    assert isinstance(student.head, MultiScaleHead)
    head = student.head.project
    watched = {0.03: next(student.backbone.parameters()), 0.1: head.weight}
    expected = {rate: (weight.detach().clone(), torch.zeros_like(weight)) for rate, weight in watched.items()}
    for step in range(3):
        factor = set_learning_rates(optimizer, step, config)
        assert factor == pytest.approx((1 - step / 10) ** 0.9)
        for rate, weight in watched.items():
            weight.grad = torch.full_like(weight, 0.5 + step)
            value, speed = expected[rate]
            speed = 0.8 * speed + (0.5 + step) + 0.01 * value
            expected[rate] = (value - factor * rate * speed, speed)
        optimizer.step()
        for rate, weight in watched.items():
            torch.testing.assert_close(weight.detach(), expected[rate][0])


def test_adamw_stays_the_default_and_frozen_parts_are_left_out(student: Embedder) -> None:
    student.backbone.requires_grad_(False)
    optimizer = build_optimizer(student, TrainConfig())
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [group["base_rate"] for group in optimizer.param_groups] == [TrainConfig().lr]


def test_schedule_warms_up_and_falls_to_nothing() -> None:
    config = TrainConfig(steps=100, warmup=10, poly_power=0.9)
    factors = [learning_rate_factor(step, config) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9]
    assert factors[100] == 0


def test_preset_paper_is_the_recipe_that_its_comment_states() -> None:
    """HSG's values where the paper gives none, every deviation in the preset's comment, nothing beyond the paper."""
    config = load_config("paper")
    train = config.train
    assert (train.optimizer, train.momentum, train.weight_decay, train.poly_power) == ("sgd", 0.9, 1e-4, 0.9)
    assert (train.batch, train.lr, train.backbone_lr) == (32, 0.1 * 32 / 128, 0.1 * 32 / 128 / 10)
    assert (config.segments.clusters, config.segments.iterations) == ((4, 4), 15)
    assert config.objective.concentration == 16
    assert (config.regions.method, config.regions.count) == ("hed-ucm", 48)
    assert (config.data.crop, config.data.scale) == (224, (0.25, 1.0))
    assert config.teacher.calibrate, "a deviation"
    assert config.extensions == ExtensionConfig(), "none of them"
    assert config.extensions.em_iterations == 0, "no fit after training"


def test_stages_differ_from_the_preset_paper_in_size_clusters_and_rates_alone() -> None:
    paper, first, second = (load_config(name) for name in ("paper", "paper-stage1", "paper-stage2"))
    assert (first.data.crop, first.segments.clusters, first.segments.iterations) == (224, (1, 1), 1)
    assert (second.data.crop, second.segments.clusters, second.segments.iterations) == (448, (4, 4), 15)
    assert (second.train.batch, second.train.lr, second.train.steps) == (12, 8e-3 * 12 / 48, 20000)
    for stage in (first, second):
        for section in ("teacher", "student", "regions", "prototypes", "objective", "extensions"):
            assert getattr(stage, section) == getattr(paper, section)
        assert stage.train.optimizer == "sgd"
