"""MaskCLIP+: pseudo labels and the loss of a frozen classifier."""

import math

import pytest
import torch
from hypothesis import given
from torch import Tensor

from clips4.config import ObjectiveConfig, SegmentConfig
from clips4.data.label_maps import IGNORED
from clips4.method.losses.maskclip_plus import TEACHER_TEMPERATURE, maskclip_plus, pseudo_label_loss, pseudo_labels
from clips4.method.objective import Terms, objective
from tests.helpers import provable, same_gradients, seeds, unit

TAU = 0.1


def literal_labels(pixels: Tensor, classifier: Tensor, temperature: float, confidence: float, denoise: bool) -> Tensor:
    """One pixel at a time."""
    labels = torch.full((pixels.shape[0], *pixels.shape[2:]), IGNORED)
    for b, image in enumerate(pixels):
        places = [(y, x) for y in range(image.shape[1]) for x in range(image.shape[2])]

        def probabilities(y: int, x: int, asked: list[int], image: Tensor = image) -> list[float]:
            exponentials = [math.exp(float(image[:, y, x] @ classifier[k]) / temperature) for k in asked]
            return [value / sum(exponentials) for value in exponentials]

        asked = list(range(len(classifier)))
        if denoise:
            sure = [k for k in asked if max(probabilities(y, x, asked)[k] for y, x in places) >= 0.5]
            asked = sure or asked
        for y, x in places:
            likely = probabilities(y, x, asked)
            if max(likely) >= confidence:
                labels[b, y, x] = asked[likely.index(max(likely))]
    return labels


def literal_loss(z: Tensor, labels: Tensor, classifier: Tensor) -> Tensor:
    losses = []
    for b, y, x in labels.ne(IGNORED).nonzero().tolist():
        exponentials = torch.stack([((z[b, :, y, x] * t).sum() / TAU).exp() for t in classifier])
        losses.append(-(exponentials[labels[b, y, x]] / exponentials.sum()).log())
    return torch.stack(losses).sum() / len(losses)


@provable
@given(seeds)
def test_labels_equal_the_literal_version(seed: int) -> None:
    pixels, classifier = unit(2, 6, 3, 4, seed=seed, dim=1), unit(5, 6, seed=seed + 1)
    for confidence in (0.0, 0.4):
        for denoise in (False, True):
            ours = pseudo_labels(pixels, classifier, 0.3, confidence, denoise)
            assert torch.equal(ours, literal_labels(pixels, classifier, 0.3, confidence, denoise))


def test_loss_and_gradient_equal_the_literal_version() -> None:
    z, classifier = unit(2, 6, 3, 4, dim=1), unit(5, 6, seed=1)
    labels = pseudo_labels(unit(2, 6, 3, 4, seed=2, dim=1), classifier, TAU, 0.5)
    assert IGNORED in labels
    same_gradients(
        lambda x: pseudo_label_loss(x, labels, classifier, TAU), lambda x: literal_loss(x, labels, classifier), z
    )


def test_gradients_are_those_of_finite_differences() -> None:
    z, classifier = unit(1, 4, 2, 3, dim=1).requires_grad_(), unit(3, 4, seed=1)
    labels = torch.tensor([[[0, 1, 2], [IGNORED, 1, 0]]])
    assert torch.autograd.gradcheck(lambda x: pseudo_label_loss(x, labels, classifier, TAU), (z,))


def test_no_label_is_no_loss_but_still_a_graph() -> None:
    z = unit(1, 4, 2, 2, dim=1).requires_grad_()
    loss = pseudo_label_loss(z, torch.full((1, 2, 2), IGNORED), unit(3, 4), TAU)
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, z)
    assert gradient.eq(0).all()


def test_classifier_and_teacher_get_no_gradient() -> None:
    z, pixel_map, classifier = (
        unit(1, 4, 2, 2, seed=seed, dim=1).requires_grad_() if seed < 2 else unit(3, 4).requires_grad_()
        for seed in range(3)
    )
    maskclip_plus(z, pixel_map, classifier, TAU, 0, False, self_training=False).backward()
    assert z.grad is not None
    assert pixel_map.grad is None
    assert classifier.grad is None


def test_whose_labels_are_learnt_from() -> None:
    z, pixel_map, classifier = unit(1, 6, 4, 4, dim=1), unit(1, 6, 4, 4, seed=1, dim=1), unit(5, 6, seed=2)
    by_teacher, by_itself = (maskclip_plus(z, pixel_map, classifier, TAU, 0, False, own) for own in (False, True))
    teachers = pseudo_labels(pixel_map, classifier, TEACHER_TEMPERATURE)
    torch.testing.assert_close(by_teacher, pseudo_label_loss(z, teachers, classifier, TAU))
    torch.testing.assert_close(by_itself, pseudo_label_loss(z, pseudo_labels(z, classifier, TAU), classifier, TAU))
    assert by_itself < by_teacher, "one's own labels are the easiest"


@pytest.mark.parametrize(("progress", "own"), [(0.0, False), (0.09, False), (0.1, True), (1.0, True)])
def test_objective_goes_over_to_self_training(progress: float, own: bool) -> None:
    z, pixel_map, classifier = unit(2, 6, 4, 4, dim=1), unit(2, 6, 4, 4, seed=1, dim=1), unit(5, 6, seed=2)
    settings = ObjectiveConfig(mode="maskclip-plus", temperature=TAU)
    regions = torch.zeros(2, 4, 4, dtype=torch.long)
    terms: Terms = objective(z, regions, pixel_map, classifier, settings, SegmentConfig(), progress=progress)
    torch.testing.assert_close(terms.total, maskclip_plus(z, pixel_map, classifier, TAU, 0, False, own))
    assert torch.equal(terms.semantic, terms.total)
    assert terms.contrast == terms.embedding == 0
    assert terms.guidance.shape == (0, 6)
