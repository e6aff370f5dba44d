from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clips4.errors import UserError
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import Prototypes, load_checkpoint
from clips4.models.class_set import ClassSet, class_set_names, class_set_path, load_class_set, save_class_set
from tests.helpers import generator


@pytest.fixture(scope="module")
def prototypes(tiny_run: Path) -> Prototypes:
    return load_checkpoint(tiny_run).prototypes


def a_set(dimensions: int) -> ClassSet:
    vectors = F.normalize(torch.randn(3, dimensions, generator=generator(0)), dim=1)
    owner, examples = torch.tensor([0, 1, 0]), torch.tensor([False, False, True])
    return ClassSet(("pet", "cup"), (("cat",), ("cup",)), ("examples", "prototype"), vectors, owner, examples)


def test_class_set_saved_and_loaded_is_the_same(tmp_path: Path, prototypes: Prototypes) -> None:
    given = a_set(prototypes.known.shape[1])
    path = class_set_path(tmp_path, "my set-1")
    save_class_set(path, given, prototypes)
    found = load_class_set(path, prototypes)
    assert (found.names, found.queried, found.sources) == (given.names, given.queried, given.sources)
    for name in ("vectors", "owner", "examples"):
        assert torch.equal(getattr(found, name), getattr(given, name))
    assert class_set_names(tmp_path) == ["my set-1"]


def test_class_set_of_another_model_is_refused(tmp_path: Path, prototypes: Prototypes) -> None:
    path = class_set_path(tmp_path, "a")
    save_class_set(path, a_set(prototypes.known.shape[1]), prototypes)
    for other in (None, replace(prototypes, known=-prototypes.known, fitted=None)):
        with pytest.raises(UserError, match="another run"):
            load_class_set(path, other)


@pytest.mark.parametrize("data", [b"", b"junk", b"\xff" * 40, (2).to_bytes(8, "little") + b"{}"])
def test_class_set_damaged_is_an_error_that_names_it(tmp_path: Path, prototypes: Prototypes, data: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(UserError, match="not a class set"):
        load_class_set(path, prototypes)


def test_class_set_cut_off_anywhere_is_an_error(tmp_path: Path, prototypes: Prototypes) -> None:
    path = class_set_path(tmp_path, "a")
    save_class_set(path, a_set(prototypes.known.shape[1]), prototypes)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 23)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="not a class set"):
            load_class_set(path, prototypes)


def test_classes_with_a_class_set_query_its_vectors(copied_run: Path, prototypes: Prototypes) -> None:
    path = class_set_path(copied_run, "a")
    given = a_set(prototypes.known.shape[1])
    save_class_set(path, given, prototypes)
    segmenter = Segmenter.load(copied_run)
    query = segmenter.query(str(path))
    assert query.names == ("pet", "cup")
    assert torch.equal(query.vectors, given.vectors)
    with_background = segmenter.query(path, background="grass")
    assert with_background.names == ("pet", "cup", "background")
    assert with_background.owner.tolist() == [0, 1, 0, 2]
    with pytest.raises(UserError, match="leave out vectors="):
        segmenter.query(path, vectors="text")
