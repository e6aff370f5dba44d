import pytest
import torch
from hypothesis import given
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.refine.maskclip import Refinement, confident_classes, refine_scores, smooth_by_keys
from tests.helpers import generator, provable, seeds, unit


def scores(seed: int = 0, classes: int = 4, height: int = 3, width: int = 5) -> Tensor:
    return 0.05 * torch.randn(classes, height, width, generator=generator(seed), dtype=torch.float64)


@provable
@given(seeds)
def test_smooth_by_keys_equals_the_sum_over_all_positions(seed: int) -> None:
    p, k = scores(seed).softmax(0), unit(6, 3, 5, seed=seed, dim=0)
    ours = smooth_by_keys(p, k)
    for i in range(15):
        total = torch.zeros(4, dtype=torch.float64)
        for j in range(15):
            cosine = (k[:, i // 5, i % 5] * k[:, j // 5, j % 5]).sum()
            total += cosine * p[:, j // 5, j % 5]
        torch.testing.assert_close(ours[:, i // 5, i % 5], total / 15, rtol=0, atol=1e-12)


def test_refinement_of_affinity_and_keys_raises() -> None:
    with pytest.raises(UserError, match="affinity gives a finer map than there are keys"):
        Refinement(key_smoothing=True, affinity=True)


def test_smooth_by_keys_constant_key_gives_the_mean() -> None:
    p = scores().softmax(0)
    k = torch.zeros(2, 3, 5, dtype=torch.float64)
    k[1] = 1
    torch.testing.assert_close(smooth_by_keys(p, k), p.mean((1, 2), keepdim=True).expand_as(p))


def test_smooth_by_keys_orthogonal_groups_stay_apart() -> None:
    p, k = torch.zeros(2, 1, 4), torch.zeros(2, 1, 4)
    k[0, 0, :2] = k[1, 0, 2:] = 1
    p[0, 0, :2] = torch.tensor([0.9, 0.3])
    p[0, 0, 2:] = torch.tensor([0.2, 0.4])
    p[1] = 1 - p[0]
    assert smooth_by_keys(p, k).argmax(0).tolist() == [[0, 0, 1, 1]]


def test_confident_classes_unsure_class_is_removed() -> None:
    cosines = torch.zeros(3, 1, 2)
    cosines[0, 0, 0] = cosines[2, 0, 1] = 0.1
    cosines[1] = 0.06
    assert confident_classes(cosines, 0.5).tolist() == [0, 2]
    assert confident_classes(cosines, 0.0).tolist() == [0, 1, 2]
    assert confident_classes(torch.zeros(3, 2, 2), 0.5).tolist() == [0, 1, 2], "where none is sure, all are asked"


@provable
@given(seeds)
def test_refine_scores_denoising_equals_loops(seed: int) -> None:
    cosines = scores(seed)
    kept = []
    for label in range(4):
        sure = 0.0
        for y in range(3):
            for x in range(5):
                exponentials = [float((100 * cosines[other, y, x]).exp()) for other in range(4)]
                sure = max(sure, exponentials[label] / sum(exponentials))
        if sure >= 0.5:
            kept.append(label)
    refined, asked = refine_scores(cosines, None, Refinement(prompt_denoising=True))
    assert asked.tolist() == (kept or [0, 1, 2, 3])
    assert torch.equal(refined, cosines[asked])


def test_refine_scores_denoises_before_smoothing() -> None:
    cosines, keys = scores(3), unit(6, 3, 5, dim=0)
    refined, asked = refine_scores(cosines, keys, Refinement(prompt_denoising=True, key_smoothing=True, threshold=0.9))
    assert 0 < len(asked) < 4
    assert torch.equal(refined, smooth_by_keys((100 * cosines[asked]).softmax(0), keys))


def test_refine_scores_without_refinement_is_identity() -> None:
    cosines = scores()
    refined, asked = refine_scores(cosines, None, Refinement())
    assert refined is cosines
    assert asked.tolist() == [0, 1, 2, 3]


def test_refine_scores_smoothing_without_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the keys"):
        refine_scores(scores(), None, Refinement(key_smoothing=True))
