"""The linear probe against logistic regression of scikit-learn."""

import numpy as np
import pytest
import torch

from clips4.data.label_maps import IGNORE
from clips4.evaluation.unsupervised.linear_probe import LinearProbeRecipe, fit_linear_probe, labeled_pixels
from tests.helpers import generator


def test_fit_linear_probe_equals_logistic_regression_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    rows = torch.randn(300, 4, generator=generator(0))
    labels = (
        rows @ torch.randn(4, 3, generator=generator(1)) + 0.8 * torch.randn(300, 3, generator=generator(2))
    ).argmax(1)
    recipe = LinearProbeRecipe(penalty=0.01, iterations=300)
    layer = fit_linear_probe(rows, labels, 3, recipe)
    standard = ((rows - rows.mean(0)) / rows.std(0, unbiased=False)).numpy()
    oracle = LogisticRegression(C=1 / (0.01 * 300), tol=1e-8, max_iter=2000).fit(standard, labels.numpy())
    ours = layer(rows).softmax(1).numpy()
    np.testing.assert_allclose(ours, oracle.predict_proba(standard), atol=2e-3)


def test_fit_linear_probe_constant_channel_stays_finite() -> None:
    rows = torch.cat([torch.randn(50, 2, generator=generator(0)), torch.ones(50, 1)], 1)
    layer = fit_linear_probe(rows, (rows[:, 0] > 0).long(), 2, LinearProbeRecipe())
    assert torch.isfinite(layer(rows)).all()
    with pytest.raises(ValueError, match="no labeled pixel"):
        fit_linear_probe(rows[:0], torch.zeros(0, dtype=torch.long), 2, LinearProbeRecipe())


def test_labeled_pixels_have_the_label_at_their_center() -> None:
    truth = np.full((8, 8), IGNORE, np.uint8)
    truth[2, 2], truth[6, 6] = 1, 2
    z = torch.arange(4.0).view(1, 2, 2)
    rows, labels = labeled_pixels(z, truth, 10, generator(0))
    assert sorted(zip(rows.flatten().tolist(), labels.tolist(), strict=True)) == [(0, 1), (3, 2)]
    assert len(labeled_pixels(z, truth, 1, generator(0))[0]) == 1
