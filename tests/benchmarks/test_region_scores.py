"""Scores of regions against slow literal versions, closed forms and the published hierarchies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from region_scores import (
    best_scales,
    boundary_matches,
    covering,
    merged,
    overlaps,
    score,
    undersegmentation,
    within,
)

from clips4.utils.images import boundaries
from tests.helpers import BSDS, provable, seeds, with_bsds
from tests.reference import regions as slow
from tests.reference.ucm2 import from_ucm2, read_ucm2


def labels(seed: int, count: int = 5, size: tuple[int, int] = (9, 12)) -> NDArray[np.int64]:
    """Blocks of 3 pixels, numbered through."""
    coarse = np.random.default_rng(seed).integers(0, count, (size[0] // 3, size[1] // 3))
    return np.unique(coarse.repeat(3, 0).repeat(3, 1), return_inverse=True)[1].reshape(size)


@provable
@given(seeds, seeds)
def test_covering_and_undersegmentation_are_those_of_the_slow_versions(one: int, other: int) -> None:
    shared = overlaps(labels(one), labels(other, 3))
    assert covering(shared) == pytest.approx(slow.covering(labels(one), labels(other, 3)))
    assert undersegmentation(shared) == pytest.approx(slow.undersegmentation(labels(one), labels(other, 3)))


@provable
@given(seeds, seeds, st.sampled_from([1.0, 2.0, 2.9]))
def test_boundary_matches_are_those_of_the_slow_version(one: int, other: int, tolerance: float) -> None:
    own, truths = labels(one), [labels(other, 2), labels(other + 1, 3)]
    edges, theirs = boundaries(own), [boundaries(truth) for truth in truths]
    found = sum(slow.near(edges, y, x, tolerance) for t in theirs for y, x in zip(*np.nonzero(t), strict=True))
    right = sum(slow.near(theirs[0] | theirs[1], y, x, tolerance) for y, x in zip(*np.nonzero(edges), strict=True))
    expected = (found, int(theirs[0].sum() + theirs[1].sum()), right, int(edges.sum()))
    assert boundary_matches(own, truths, tolerance) == expected


@provable
@given(seeds, seeds)
def test_overlaps_of_merged_leaves_are_those_of_the_regions(one: int, other: int) -> None:
    leaves, truth = labels(one, 9), labels(other, 3)
    table = np.random.default_rng(one).integers(0, 3, leaves.max() + 1)
    table = np.unique(table, return_inverse=True)[1]
    assert np.array_equal(merged(overlaps(leaves, truth), table), overlaps(table[leaves], truth))


def test_truth_itself_is_perfect() -> None:
    truth = labels(3)
    scores = score([truth], [[truth, truth]])
    assert (scores.covering, scores.recall, scores.precision, scores.undersegmentation) == (1, 1, 1, 0)


def test_one_region_covers_each_part_by_its_share() -> None:
    truth = np.zeros((10, 10), int)
    truth[:, 7:] = 1
    shared = overlaps(np.zeros((10, 10), int), truth)
    assert covering(shared) == pytest.approx(0.7 * 0.7 + 0.3 * 0.3)
    assert undersegmentation(shared) == pytest.approx(0.6)


def test_covering_does_not_know_the_numbers_of_the_labels() -> None:
    one, other = labels(1, 6), labels(2, 4)
    turned = overlaps(one.max() - one, (other + 1) % (other.max() + 1))
    assert covering(turned) == pytest.approx(covering(overlaps(one, other)))


def test_images_count_by_their_pixels_and_people() -> None:
    small, large = labels(1), labels(2, 5, (18, 24))
    flat = np.zeros_like(large)
    scores = score([small, flat], [[small], [large, large]])
    expected = (small.size + 2 * large.size * covering(overlaps(flat, large))) / (small.size + 2 * large.size)
    assert scores.covering == pytest.approx(expected)
    assert scores.recall == pytest.approx(
        boundaries(small).sum() / (boundaries(small).sum() + 2 * boundaries(large).sum())
    )
    assert scores.regions == (small.max() + 2) / 2


def test_best_scales_of_images_and_set_are_found() -> None:
    per_scale = np.array([[0.2, 0.6, 0.4], [0.9, 0.5, 0.1]])
    ods, best, ois = best_scales(per_scale, np.array([3.0, 1.0]))
    assert best == 1
    assert [ods, ois] == pytest.approx([0.575, 0.675])


def test_within_is_a_disc() -> None:
    mask = np.zeros((7, 7), bool)
    mask[3, 3] = True
    y, x = np.mgrid[-3:4, -3:4]
    assert np.array_equal(within(mask, 2), np.hypot(y, x) <= 2)


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        overlaps(np.zeros((3, 4), int), np.zeros((4, 3), int))


@with_bsds
def test_published_hierarchies_score_as_published() -> None:
    """gPb-OWT-UCM has covering .59 (ODS, test set); the first 12 train maps at their known best scale are near."""
    from clips4.data.benchmarks.bsds import read_segmentations

    files = sorted((BSDS / "ucm2/train").glob("*.mat"))[:12]
    partitions = [from_ucm2(read_ucm2(file)).at_threshold(0.16) for file in files]
    truths = [read_segmentations(BSDS / f"groundTruth/train/{file.stem}.mat") for file in files]
    assert 0.54 < score(partitions, truths).covering < 0.68
