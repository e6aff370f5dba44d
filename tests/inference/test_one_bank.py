"""One bank per decision: unknown among pixel prototypes, the class among the vectors of the query."""

from dataclasses import replace

import numpy as np
import torch

from clips4.inference.classifier import Query
from clips4.inference.encoder import EncodedImage
from clips4.inference.predict import predict
from clips4.inference.refine.maskclip import Refinement
from clips4.outputs.labeled_image import UNKNOWN_LABEL
from tests.helpers import unit

D, SIZE = 12, (40, 40)


def encoded() -> EncodedImage:
    z = unit(D, 5, 5, dim=0, dtype=torch.float32)
    return EncodedImage(np.zeros((*SIZE, 3), np.uint8), z, None)


KNOWN, UNKNOWN = unit(3, D, seed=1, dtype=torch.float32), unit(4, D, seed=2, dtype=torch.float32)


def labels(query: Query, unknown: torch.Tensor = UNKNOWN, margin: float = 0.0) -> np.ndarray:
    return predict(encoded(), query, unknown, Refinement(), None, margin).labels


def test_predict_with_prototypes_and_no_margin_equals_one_argmax() -> None:
    query = Query.one_per_class(KNOWN, ("a", "b", "c"))
    assert np.array_equal(labels(query), labels(replace(query, pixel_vectors=query.vectors)))
    assert (labels(query) == UNKNOWN_LABEL).any()


def test_predict_by_text_takes_unknown_from_pixel_prototypes_and_classes_from_text() -> None:
    text = 0.1 * unit(3, D, seed=3, dtype=torch.float32)  # cosines of text are far smaller than those of pixels
    query = Query.one_per_class(text, ("a", "b", "c"))
    found = labels(replace(query, pixel_vectors=KNOWN))
    unknown = labels(Query.one_per_class(KNOWN)) == UNKNOWN_LABEL
    assert np.array_equal(found == UNKNOWN_LABEL, unknown)
    assert np.array_equal(found[~unknown], labels(query, UNKNOWN[:0])[~unknown])


def test_predict_with_a_larger_margin_has_less_unknown() -> None:
    query = replace(Query.one_per_class(KNOWN), pixel_vectors=KNOWN)
    shares = [(labels(query, margin=margin) == UNKNOWN_LABEL).mean() for margin in (0.0, 0.1, 3.0)]
    assert shares[0] > shares[1] > shares[2] == 0
