"""Predictions: unknown among pixel prototypes, the class among the vectors of the query; context of the image."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clips4.inference.classifier import Query
from clips4.inference.encoding.encoder import EncodedImage
from clips4.inference.predict import classify, predict
from clips4.inference.refine.background import BackgroundRule
from clips4.inference.refine.maskclip import Refinement
from clips4.inference.upsample import nearest_class
from clips4.method.prediction_context import PredictionContext
from clips4.outputs.labeled_image import UNKNOWN_LABEL
from clips4.utils.tensors import resize_map
from tests.helpers import unit

D, SIZE = 12, (40, 50)
KNOWN, UNKNOWN = unit(5, D, seed=1, dtype=torch.float32), unit(4, D, seed=2, dtype=torch.float32)
CONTEXT = PredictionContext(1.0)


def encoded() -> EncodedImage:
    return EncodedImage(np.zeros((*SIZE, 3), np.uint8), unit(D, 5, 6, dim=0, dtype=torch.float32), None)


def test_classify_in_context_scores_are_the_cosines_of_the_labels() -> None:
    plain, _ = nearest_class(encoded().z, KNOWN, SIZE)
    labels, scores = classify(encoded(), KNOWN, Refinement(), None, 1.0)
    assert not torch.equal(labels, plain)  # it decides something here
    cosines = resize_map(torch.einsum("dhw,ld->lhw", encoded().z, KNOWN)[None], SIZE)[0]
    torch.testing.assert_close(scores, cosines.gather(0, labels[None])[0], atol=1e-5, rtol=0)


def test_classify_with_weight_zero_is_the_prediction_without() -> None:
    labels, scores = classify(encoded(), KNOWN, Refinement(), None, 0.0)
    plain = nearest_class(encoded().z, KNOWN, SIZE)
    assert torch.equal(labels, plain[0])
    assert torch.equal(scores, plain[1])


def test_predict_in_context_has_the_same_unknown_pixels() -> None:
    for query in (Query.one_per_class(KNOWN), replace(Query.one_per_class(KNOWN), pixel_vectors=KNOWN)):
        plain, other = (
            predict(encoded(), query, UNKNOWN, Refinement(), None, context=each).labels
            for each in (PredictionContext(), CONTEXT)
        )
        assert np.array_equal(plain == UNKNOWN_LABEL, other == UNKNOWN_LABEL)
        assert not np.array_equal(plain, other)


def test_predict_in_context_without_unknown_is_classify() -> None:
    query = Query.one_per_class(KNOWN)
    found = predict(encoded(), query, UNKNOWN[:0], Refinement(), None, context=CONTEXT).labels
    assert np.array_equal(found, classify(encoded(), KNOWN, Refinement(), None, 1.0)[0].numpy())


def labels(query: Query, unknown: Tensor = UNKNOWN, margin: float = 0.0) -> NDArray[np.integer]:
    return predict(encoded(), query, unknown, Refinement(), None, margin).labels


def several(repeats: int = 1) -> Query:
    """Classes of two, one and two vectors; the first two are repeated."""
    owner = torch.tensor([0, 0] * repeats + [1, 2, 2])
    return Query(torch.cat([KNOWN[:2]] * repeats + [KNOWN[2:]]), owner, ("a", "b", "c"), grouped=True)


def of_classes(query: Query) -> Tensor:
    """(K, H, W) the largest upsampled cosine of each class's vectors, literally."""
    large = resize_map(torch.einsum("dhw,ld->lhw", encoded().z, query.vectors)[None], SIZE)[0]
    return torch.stack([large[query.owner == label].amax(0) for label in range(3)])


def test_predict_by_several_vectors_is_the_class_of_the_nearest() -> None:
    assert np.array_equal(labels(several(), UNKNOWN[:0]), of_classes(several()).argmax(0).numpy())


def test_predict_in_context_of_several_vectors_biases_classes() -> None:
    query, tau = several(), CONTEXT.pixel_temperature
    coarse = torch.einsum("dhw,ld->lhw", encoded().z, query.vectors)
    log_p = (torch.stack([coarse[query.owner == label].amax(0) for label in range(3)]) / tau).log_softmax(0)
    bias = tau * log_p.exp().mean((1, 2)).log()
    expected = (of_classes(query) + bias[:, None, None]).argmax(0).numpy()
    found = predict(encoded(), query, UNKNOWN[:0], Refinement(), None, context=CONTEXT).labels
    assert not np.array_equal(found, labels(query, UNKNOWN[:0]))  # it decides something here
    assert np.array_equal(found, expected)


def test_predict_background_by_probability_is_of_classes_however_many_vectors_they_have() -> None:
    rule = BackgroundRule(probability=0.5, scale=3.0)
    once, often = (replace(several(repeats), background=rule, background_label=1) for repeats in (1, 5))
    found = labels(once, UNKNOWN[:0])
    probability, best = (3.0 * of_classes(once)).softmax(0).max(0)
    assert np.array_equal(found, torch.where(probability < 0.5, 1, best).numpy())
    assert np.array_equal(labels(often, UNKNOWN[:0]), found)
    assert not np.array_equal(labels(replace(often, grouped=False), UNKNOWN[:0]), found)  # vectors compete there


def test_predict_in_context_repeated_vectors_change_nothing() -> None:
    once, often = (
        predict(encoded(), several(repeats), UNKNOWN, Refinement(), None, context=CONTEXT) for repeats in (1, 4)
    )
    assert np.array_equal(once.labels, often.labels)


def test_predict_with_prototypes_and_no_margin_equals_one_argmax() -> None:
    query = Query.one_per_class(KNOWN[:3], ("a", "b", "c"))
    assert np.array_equal(labels(query), labels(replace(query, pixel_vectors=query.vectors)))
    assert (labels(query) == UNKNOWN_LABEL).any()


def test_predict_by_text_takes_unknown_from_pixel_prototypes_and_classes_from_text() -> None:
    text = 0.1 * unit(3, D, seed=3, dtype=torch.float32)  # cosines of text are far smaller than those of pixels
    query = Query.one_per_class(text, ("a", "b", "c"))
    found = labels(replace(query, pixel_vectors=KNOWN[:3]))
    unknown = labels(Query.one_per_class(KNOWN[:3])) == UNKNOWN_LABEL
    assert np.array_equal(found == UNKNOWN_LABEL, unknown)
    assert np.array_equal(found[~unknown], labels(query, UNKNOWN[:0])[~unknown])


def test_predict_with_a_larger_margin_has_less_unknown() -> None:
    query = replace(Query.one_per_class(KNOWN[:3]), pixel_vectors=KNOWN[:3])
    shares = [(labels(query, margin=margin) == UNKNOWN_LABEL).mean() for margin in (0.0, 0.1, 3.0)]
    assert shares[0] > shares[1] > shares[2] == 0
