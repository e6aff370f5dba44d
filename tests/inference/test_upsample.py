"""Labels at the image's size: bands and tiles give what the whole image at once gives."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from clips4.inference import upsample as labelling
from clips4.inference.refine.maskclip import PamrRefiner
from clips4.inference.upsample import (
    best_class,
    best_probability,
    contenders,
    nearest_class,
    pamr_class,
    upsampled_bands,
    upsampled_window,
)
from clips4.utils.tensors import to_tensor
from tests.helpers import generator, noise_image, provable, seeds, unit


@pytest.mark.parametrize("pixels", [1, 40, 10**6])
def test_nearest_class_equals_argmax_of_upsampled_cosines(monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    monkeypatch.setattr(labelling, "BAND_PIXELS", pixels)
    z, vectors = unit(8, 4, 5, dim=0).float(), unit(7, 8, seed=1).float()
    logits = torch.einsum("dhw,ld->lhw", z, vectors)
    upsampled = F.interpolate(logits[None], (13, 17), mode="bilinear", align_corners=False)[0]
    labels, cosines = nearest_class(z, vectors, (13, 17))
    assert torch.equal(labels, upsampled.argmax(0))
    torch.testing.assert_close(cosines, upsampled.amax(0))


@provable
@given(seeds, st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 23)] * 2), st.integers(1, 300))
def test_upsampled_bands_equal_the_whole(seed: int, small: tuple[int, int], size: tuple[int, int], band: int) -> None:
    scores = torch.randn(3, *small, generator=generator(seed))
    whole = F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
    together = torch.full((3, *size), torch.nan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelling, "BAND", band)
        for place, part in upsampled_bands(scores, size):
            assert part.shape[1] * part.shape[2] * 3 <= max(band, 3 * size[1]), "a band is no larger than it may be"
            together[(slice(None), *place)] = part
    torch.testing.assert_close(together, whole)


@provable
@given(seeds, st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(2, 23)] * 2), st.data())
def test_upsampled_window_equals_a_crop_of_the_whole(
    seed: int, small: tuple[int, int], size: tuple[int, int], data: st.DataObject
) -> None:
    scores = torch.randn(2, *small, generator=generator(seed))
    whole = F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
    top, left = (data.draw(st.integers(0, side - 1)) for side in size)
    rows = slice(top, data.draw(st.integers(top + 1, size[0])))
    columns = slice(left, data.draw(st.integers(left + 1, size[1])))
    torch.testing.assert_close(upsampled_window(scores, size, rows, columns), whole[:, rows, columns])


@provable
@given(seeds, st.integers(1, 9), st.tuples(*[st.integers(1, 7)] * 2), st.tuples(*[st.integers(1, 40)] * 2))
def test_contenders_contain_every_winner(
    seed: int, classes: int, small: tuple[int, int], size: tuple[int, int]
) -> None:
    """The answer is that of all classes upsampled, though most are never looked at."""
    scores = torch.randn(classes, *small, generator=generator(seed))
    whole = F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
    labels, best = best_class(scores, size)
    torch.testing.assert_close(best, whole.amax(0))
    torch.testing.assert_close(whole.gather(0, labels[None])[0], whole.amax(0))


def test_contenders_contain_a_winner_between_positions() -> None:
    """Second at both of two positions whose winners differ, it is the best in the middle; a fourth is never."""
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6], [-0.1, -0.1]])[:, None].expand(4, 2, 2)
    assert contenders(scores).tolist() == [0, 1, 2]
    assert best_class(scores, (2, 9))[0].unique().tolist() == [0, 1, 2]


def test_best_class_equal_scores_give_the_lowest_label() -> None:
    labels, best = best_class(torch.full((3, 2, 2), 0.25), (5, 4))
    assert not labels.any()
    assert (best == 0.25).all()


@pytest.mark.parametrize("budget", [1, 10**9])
def test_pamr_class_in_tiles_equals_the_whole(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    """Tiles with all around them that their values depend on give the scores of the whole image."""
    image = noise_image(230, 210, seed=3)
    scores = torch.randn(3, 9, 8, generator=generator(5))
    large = F.interpolate(scores[None], (230, 210), mode="bilinear", align_corners=False)[0]
    refined = PamrRefiner(to_tensor(image))(large)
    monkeypatch.setattr(labelling, "TILE", 40)
    monkeypatch.setattr(labelling, "LOGIT_BUDGET", budget)
    labels, best = pamr_class(scores, image)
    torch.testing.assert_close(best, refined.amax(0), rtol=0, atol=1e-5)
    assert (labels == refined.argmax(0)).float().mean() > 0.999


def test_pamr_class_smaller_margin_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A margin half as wide changes the answer: the reach that is claimed is no more than is needed."""
    image = noise_image(230, 210, seed=3)
    scores = torch.randn(3, 9, 8, generator=generator(5))
    whole = pamr_class(scores, image)[1]
    monkeypatch.setattr(labelling, "TILE", 40)
    monkeypatch.setattr(labelling, "PAMR_REACH", 16)
    assert float((pamr_class(scores, image)[1] - whole).abs().max()) > 1e-4


def test_best_probability_equals_the_softmax() -> None:
    scores = torch.randn(4, 3, 5, generator=generator(1))
    large = F.interpolate(scores[None], (9, 14), mode="bilinear", align_corners=False)[0]
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (9, 14)))
    expected = (40 * large).softmax(0).gather(0, labels[None])[0]
    torch.testing.assert_close(best_probability(scores, (9, 14), labels, 40), expected)
