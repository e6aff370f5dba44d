"""Vectors as JSON: exact in every type, and a document that is not ours is refused."""

import json

import pytest
import torch

from clips4.models.onnx.rules import vectors_from_json, vectors_to_json
from tests.helpers import unit


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (0, 3), (5, 7), (400, 350)])
def test_vectors_of_every_type_and_size_come_back_exactly(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    read = vectors_from_json(json.loads(vectors_to_json({"a": given})))["a"]
    assert read.dtype == dtype
    assert torch.equal(read, given)


def test_small_vectors_are_plain_lists() -> None:
    document = json.loads(vectors_to_json({"a": unit(2, 3, dtype=torch.float32)}))
    assert document["a"]["shape"] == [2, 3]
    assert len(document["a"]["values"]) == 6


@pytest.mark.parametrize(
    "changed",
    [
        {"dtype": "int64"},
        {"shape": [4]},
        {"shape": [-2, -1]},
        {"shape": "2"},
        {"values": ["a", "b"]},
        {"values": None},
        {"base64": "?"},
        {"base64": "AAAA"},
    ],
)
def test_document_of_another_form_is_refused(changed: dict[str, object]) -> None:
    facts = {"dtype": "float32", "shape": [2], "values": [1.0, 2.0]} | changed
    with pytest.raises(ValueError, match=r"."):
        vectors_from_json({"a": facts})
