"""The class bias of an image against the rule it stands for."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given

from clips4.method.class_scores import assign_in_context
from clips4.method.prediction_context import context_bias
from tests.helpers import provable, seeds, unit

TAU = 0.07


def cosines(seed: int) -> torch.Tensor:
    return torch.einsum("dhw,ld->lhw", unit(16, 5, 6, dim=0, seed=seed), unit(4, 16, seed=seed + 1))


@provable
@given(seeds)
def test_context_bias_gives_the_argmax_of_the_rule_after_upsampling(seed: int) -> None:
    c = cosines(seed)
    log_p = (c / TAU).log_softmax(0)
    rule = log_p + log_p.exp().flatten(1).mean(1).log()[:, None, None]
    biased = c + context_bias(c, TAU, 1.0)[:, None, None]
    larger = [F.interpolate(each[None], (37, 41), mode="bilinear", align_corners=False)[0] for each in (rule, biased)]
    best = larger[0].topk(2, dim=0).values
    clear = best[0] - best[1] > 1e-9
    assert torch.equal(larger[0].argmax(0)[clear], larger[1].argmax(0)[clear])


@provable
@given(seeds)
def test_context_bias_equals_assign_in_context(seed: int) -> None:
    z, vectors = unit(30, 16, seed=seed), unit(4, 16, seed=seed + 1)
    c = (z @ vectors.T).T.reshape(4, 5, 6)
    biased = (c + context_bias(c, TAU, 1.0)[:, None, None]).flatten(1).argmax(0)
    assert torch.equal(biased, assign_in_context(z, vectors, torch.zeros(30, dtype=torch.int64), 1, TAU, 1.0))


def test_context_bias_of_weight_zero_is_zero() -> None:
    assert not context_bias(cosines(0), TAU, 0.0).any()


def test_context_bias_of_a_hopeless_class_is_finite() -> None:
    c = torch.stack([torch.ones(3, 3), -torch.ones(3, 3)])
    bias = context_bias(c, 0.001, 1.0)
    assert bias.isfinite().all()
    assert bias[0] == pytest.approx(0, abs=1e-6)
    assert bias[1] == pytest.approx(-2.0, abs=1e-3)
