import pytest
import torch
from torch import Tensor

import clips4.method.prototype_search
from clips4.method.prototype_search import PrototypeSearch
from clips4.method.prototypes import known_prototypes
from tests.helpers import unit

CLASSES, DIMENSIONS, M = 3, 6, 4


def images(count: int, size: int = 7) -> list[Tensor]:
    return [unit(size, DIMENSIONS, seed=50 + number) for number in range(count)]


def search(segments: dict[int, Tensor], sample: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    found = PrototypeSearch(unit(CLASSES, DIMENSIONS, seed=1), M, sample, seed)
    for image, vectors in segments.items():
        found.add(vectors, image)
    return found.candidates()


@pytest.mark.parametrize("buffer", [1, 10, 10**6])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_prototypes_are_those_of_all_segments_held_at_once(
    count: int, buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips4.method.prototype_search, "_BUFFER", buffer)
    text, all_pictures = unit(CLASSES, DIMENSIONS, seed=1), images(count)
    near, _ = search(dict(enumerate(all_pictures)))
    assert len(near) <= CLASSES * M
    assert torch.equal(known_prototypes(text, near, M), known_prototypes(text, torch.cat(all_pictures), M))


def test_neither_order_nor_buffer_changes_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = dict(enumerate(images(20)))
    near, drawn = search(segments)
    monkeypatch.setattr(clips4.method.prototype_search, "_BUFFER", 15)
    for order in (sorted(segments), sorted(segments, reverse=True)):
        other_near, other_drawn = search({number: segments[number] for number in order})
        assert torch.equal(near, other_near)
        assert torch.equal(drawn, other_drawn)


def test_memory_does_not_grow_with_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips4.method.prototype_search, "_BUFFER", 20)
    found = PrototypeSearch(unit(CLASSES, DIMENSIONS, seed=1), M, 5, 0)
    for number, vectors in enumerate(images(60)):
        found.add(vectors, number)
        held = len(found._bank) + len(found._drawn) + sum(map(len, found._waiting))
        assert held < CLASSES * M + 5 + 20


def test_every_segment_is_drawn_as_often_as_another() -> None:
    vectors = torch.eye(8, dtype=torch.float64)
    text = unit(2, 8)
    counts = torch.zeros(8, dtype=torch.float64)
    for seed in range(1500):
        found = PrototypeSearch(text, 1, 2, seed)
        found.add(vectors[:5], 0)  # pictures of different size
        found.add(vectors[5:], 1)
        _, drawn = found.candidates()
        counts += drawn.sum(0)
    assert float((counts / 1500 - 2 / 8).abs().max()) < 0.04


def test_a_sample_larger_than_the_set_is_the_set() -> None:
    (vectors,) = images(1)
    _, drawn = search({0: vectors}, sample=100)
    assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, vectors.tolist()))


def test_no_segment_at_all() -> None:
    near, drawn = search({})
    assert near.shape == drawn.shape == (0, DIMENSIONS)
