import pickle

import pytest
import torch
from torch import Tensor

import clips4.method.prototype_search
from clips4.config import SegmentConfig
from clips4.data.label_maps import IGNORED
from clips4.method.prototype_search import FoundPrototypes, PrototypeSearch, teacher_segments
from clips4.method.prototypes import exclusive_prototypes, known_prototypes
from tests.helpers import generator, unit
from tests.reference import segments as reference_segments

CLASSES, DIMENSIONS, M = 3, 6, 4


def images(count: int, size: int = 7) -> list[Tensor]:
    return [unit(size, DIMENSIONS, seed=50 + number) for number in range(count)]


def search(segments: dict[int, Tensor], sample: int = 5, seed: int = 0) -> FoundPrototypes:
    found = PrototypeSearch(unit(CLASSES, DIMENSIONS, seed=1), M, sample, seed)
    for image, vectors in segments.items():
        found.add(image, vectors)
    return found.result()


@pytest.mark.parametrize("buffer", [1, 10, 10**6])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_search_any_buffer_equals_all_segments_at_once(
    count: int, buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips4.method.prototype_search, "BUFFER", buffer)
    text, all_images = unit(CLASSES, DIMENSIONS, seed=1), images(count)
    assert torch.equal(search(dict(enumerate(all_images))).known, known_prototypes(text, torch.cat(all_images), M))


@pytest.mark.parametrize("exclusive", [False, True])
def test_search_of_nearest_keeps_the_segments_of_all_images(exclusive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips4.method.prototype_search, "BUFFER", 15)
    text, all_images = unit(CLASSES, DIMENSIONS, seed=1), images(4)
    found = PrototypeSearch(text, M, 28, 0, exclusive, "nearest")
    for number in (2, 0, 3, 1):
        found.add(number, all_images[number])
    known, sample = found.result()
    whole = torch.cat(all_images)
    expected = known_prototypes(text, whole, M, per_class="nearest")
    if exclusive:
        expected = exclusive_prototypes(text, whole, M, sample, per_class="nearest")
    assert known.shape == (CLASSES * M, DIMENSIONS)
    assert torch.equal(known, expected)


def test_search_other_order_or_buffer_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = dict(enumerate(images(20)))
    found = search(segments)
    monkeypatch.setattr(clips4.method.prototype_search, "BUFFER", 15)
    for order in (sorted(segments), sorted(segments, reverse=True)):
        other = search({number: segments[number] for number in order})
        assert torch.equal(found.known, other.known)
        assert torch.equal(found.sample, other.sample)


def test_search_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips4.method.prototype_search, "BUFFER", 20)
    found = PrototypeSearch(unit(CLASSES, DIMENSIONS, seed=1), M, 5, 0)
    held = []
    for number, vectors in enumerate(images(60)):
        found.add(number, vectors)
        held.append(len(pickle.dumps(found)))
    assert max(held[30:]) <= 1.05 * max(held[:30]), "grows with the set"
    assert max(held) < 2 * (CLASSES * M + 5 + 20) * (DIMENSIONS + 1) * 8 + 4096


def test_search_sample_is_uniform() -> None:
    vectors = torch.eye(8, dtype=torch.float64)
    text = unit(2, 8)
    counts = torch.zeros(8, dtype=torch.float64)
    for seed in range(1500):
        found = PrototypeSearch(text, 1, 2, seed)
        found.add(0, vectors[:5])  # images of different size
        found.add(1, vectors[5:])
        counts += found.result().sample.sum(0)
    assert float((counts / 1500 - 2 / 8).abs().max()) < 0.04


def test_search_sample_larger_than_the_set_is_the_set() -> None:
    (vectors,) = images(1)
    found = search({0: vectors}, sample=100)
    assert sorted(map(tuple, found.sample.tolist())) == sorted(map(tuple, vectors.tolist()))


def test_search_without_segments_raises() -> None:
    with pytest.raises(ValueError, match="expected text"):
        search({})


def settings(clusters: int | tuple[int, int], iterations: int) -> SegmentConfig:
    return SegmentConfig(clusters=clusters, iterations=iterations)


def test_teacher_segments_are_the_means_of_clusters_cut_by_regions() -> None:
    pixel_map = unit(4, 5, 6, dim=0)
    regions = torch.randint(-1, 3, (5, 6), generator=generator(1))
    vectors, _ = teacher_segments(pixel_map, regions, settings((2, 2), 3))

    clusters = reference_segments.spherical_kmeans(pixel_map[None], 2, 2, 3, 0.5)
    expected = [
        reference_segments.unit_vector(torch.stack([pixel_map[:, y, x] for _, y, x in pixels]).sum(0))
        for pixels in reference_segments.cut_by_regions(clusters, regions[None]).values()
    ]
    assert vectors.shape == (len(expected), 4)
    distance = torch.cdist(vectors, torch.stack(expected), compute_mode="donot_use_mm_for_euclid_dist")
    assert distance.min(1).values.max() < 1e-10
    assert distance.min(0).values.max() < 1e-10


def test_teacher_segments_of_one_cluster_and_region_is_the_mean_of_the_map() -> None:
    pixel_map = unit(3, 4, 4, dim=0)
    mean = reference_segments.unit_vector(pixel_map.sum((1, 2)))
    vectors, _ = teacher_segments(pixel_map, torch.zeros(4, 4, dtype=torch.int64), settings(1, 5))
    torch.testing.assert_close(vectors, mean[None], rtol=0, atol=1e-12)


def test_teacher_segments_of_an_image_without_regions_are_none() -> None:
    assert teacher_segments(unit(3, 4, 4, dim=0), torch.full((4, 4), IGNORED), settings(4, 2))[0].shape == (0, 3)


def test_teacher_segments_of_half_precision_and_larger_regions() -> None:
    pixel_map, regions = unit(4, 5, 6, dim=0), torch.randint(0, 3, (5, 6), generator=generator(1))
    enlarged = regions.repeat_interleave(4, 0).repeat_interleave(4, 1)
    expected = teacher_segments(pixel_map.half().float(), regions, settings(4, 2))
    for found, value in zip(teacher_segments(pixel_map.half(), enlarged, settings(4, 2)), expected, strict=True):
        assert torch.equal(found, value)
