"""Vectors as JSON: exact in every type, and a document that is not ours is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clips4.models.checkpoint import load_checkpoint
from clips4.models.onnx.rules import rules_of, vectors_from_json, vectors_to_json
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


def test_rules_of_several_prototypes_name_their_number_and_others_do_not(tiny_run: Path, nearest_run: Path) -> None:
    one, several = (load_checkpoint(run) for run in (tiny_run, nearest_run))
    assert "rows_per_class" not in rules_of(one.config, one.prototypes)
    found = rules_of(several.config, several.prototypes)
    assert found["rows_per_class"] == 3
    assert found["known"] == ["prototypes.fitted", 0, 9]
    assert found["unknown"] == ["prototypes.fitted", 9, 11]
    teacher = rules_of(several.config, replace(several.prototypes, head_scale=0.0))
    assert (teacher["known"], teacher["unknown"]) == (["prototypes.known", 0, 9], ["prototypes.unknown", 0, 2])
