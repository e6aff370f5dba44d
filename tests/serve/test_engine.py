"""Queries of the page's engine: names and examples, each with all its vectors."""

from pathlib import Path

import torch

from clips4.inference.segmenter import Segmenter
from clips4.models.class_set import save_class_set
from clips4.serve.engine import Engine
from clips4.serve.messages import ClassRequest
from clips4.serve.sessions import Examples
from tests.helpers import unit

CLASSES = [ClassRequest(name="pet", queried=["cat", "cup"]), ClassRequest(name="grass")]


def test_query_of_several_prototypes_has_those_of_names_and_examples(nearest_run: Path, tmp_path: Path) -> None:
    segmenter = Segmenter.load(nearest_run)
    assert segmenter.prototypes is not None
    engine, shown = Engine(segmenter), unit(2, 384, dtype=torch.float32)
    examples = [Examples("grass", shown, "image", (0, 1))]
    query, is_example = engine.query(CLASSES, examples)
    assert query.names == ("pet", "grass")
    assert query.owner.tolist() == [0] * 6 + [1] * 5
    assert query.grouped
    assert is_example.tolist() == [False] * 9 + [True] * 2
    assert torch.equal(query.vectors, torch.cat([segmenter.prototypes.query_known, shown]))
    save_class_set(tmp_path / "set.safetensors", engine.class_set(CLASSES, examples), segmenter.prototypes)
    kept = segmenter.query(tmp_path / "set.safetensors")
    assert torch.equal(kept.vectors, query.vectors)
    assert torch.equal(kept.owner, query.owner)
    assert kept.grouped
