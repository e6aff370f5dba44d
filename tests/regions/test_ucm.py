"""Hierarchies: merging against a slow version, nesting, closed contours, and the published format."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import label as components

from clips4.regions.contour_map import from_strength
from clips4.regions.ucm import Hierarchy, merge_regions, owt_ucm
from clips4.regions.watershed import Arcs, basins, boundary_cracks
from tests.helpers import BSDS, provable, seeds, with_bsds
from tests.reference import regions as slow
from tests.reference.ucm2 import from_ucm2, read_ucm2


def hierarchy(seed: int, height: int = 23, width: int = 31, small_share: float = 0.01) -> Hierarchy:
    strength = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    return owt_ucm(from_strength(strength), small_share)


def same_partition(a: NDArray[np.integer], b: NDArray[np.integer]) -> bool:
    pairs = np.unique(np.stack([a.ravel(), b.ravel()], 1), axis=0)
    return len(pairs) == len(np.unique(a)) == len(np.unique(b))


@provable
@given(seeds, st.sampled_from([0.0, 6.0, 30.0]))
def test_merging_is_that_of_the_slow_version(seed: int, small: float) -> None:
    random = np.random.default_rng(seed)
    leaves = basins(random.random((9, 11)))
    cracks = boundary_cracks(leaves)
    values = random.random(len(cracks.pixels))
    strength = {
        ((p // 11, p % 11), (q // 11, q % 11)): value
        for (p, q), value in zip(cracks.pixels.tolist(), values.tolist(), strict=True)
    }
    pairs, place = np.unique(np.sort(leaves.ravel()[cracks.pixels], 1), axis=0, return_inverse=True)
    sums, lengths = (np.bincount(place.ravel(), w).astype(np.float64) for w in (values, np.ones(len(values))))
    made = merge_regions(Arcs(leaves, pairs.astype(np.int64), sums, lengths), small)
    np.testing.assert_allclose(made.heights, slow.merge(leaves, strength, small), rtol=1e-5)


@provable
@given(seeds, st.sampled_from([0.0, 0.01, 0.2]))
def test_heights_never_fall_and_every_node_is_joined_once(seed: int, small_share: float) -> None:
    made = hierarchy(seed, small_share=small_share)
    assert (np.diff(made.heights) >= 0).all()
    assert sorted(made.merges.ravel().tolist()) == list(range(2 * made.count - 2))
    assert (made.merges < made.count + np.arange(made.count - 1)[:, None]).all()


@provable
@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_regions_are_nested_at_rising_thresholds(seed: int, one: float, other: float) -> None:
    made = hierarchy(seed)
    fine, coarse = made.at_threshold(min(one, other)), made.at_threshold(max(one, other))
    assert len(np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1).T) == fine.max() + 1


@provable
@given(seeds, st.integers(1, 120))
def test_regions_at_a_count_are_connected_and_number_through(seed: int, count: int) -> None:
    made = hierarchy(seed)
    regions = made.at_count(count)
    assert np.array_equal(np.unique(regions), np.arange(min(count, made.count)))
    for region in range(regions.max() + 1):
        assert components(regions == region)[1] == 1


@provable
@given(seeds, st.floats(0, 1))
def test_contours_of_the_doubled_grid_are_closed(seed: int, threshold: float) -> None:
    """What is left of the map above a threshold bounds just the regions at that threshold: the benchmark's reading."""
    made = hierarchy(seed)
    below = made.to_ucm2() <= np.float32(threshold)
    below[::2, ::2] = False  # corners
    below[[0, -1]] = below[:, [0, -1]] = False
    assert same_partition(components(below)[0][1::2, 1::2], made.at_threshold(threshold))


@provable
@given(seeds)
def test_height_of_two_leaves_is_that_of_the_slow_version(seed: int) -> None:
    made = hierarchy(seed, 12, 14)
    pairs = np.random.default_rng(seed).integers(0, made.count, (20, 2))
    expected = [slow.joined_at(made.count, made.merges, made.heights, a, b) for a, b in pairs.tolist()]
    assert made.merge_heights(pairs).tolist() == expected


@provable
@given(seeds, st.integers(1, 60))
def test_coarsened_hierarchy_is_the_upper_part(seed: int, count: int) -> None:
    made = hierarchy(seed)
    upper = made.coarsened(count)
    assert upper.count == min(count, made.count)
    for regions in range(1, upper.count + 1):
        assert same_partition(upper.at_count(regions), made.at_count(regions))
    assert np.array_equal(upper.heights, made.heights[made.count - upper.count :])
    np.testing.assert_array_equal(
        upper.to_ucm2() > 0, made.to_ucm2() > (made.heights[-upper.count] if upper.count < made.count else 0)
    )


@provable
@given(seeds)
def test_doubled_grid_holds_the_whole_hierarchy(seed: int) -> None:
    made = hierarchy(seed)
    read = from_ucm2(made.to_ucm2())
    np.testing.assert_array_equal(read.to_ucm2(), made.to_ucm2())
    for threshold in np.linspace(0, 1, 7):
        assert same_partition(read.at_threshold(threshold), made.at_threshold(threshold))


@provable
@given(seeds, st.integers(0, 30), st.integers(0, 30))
def test_enlarged_regions_are_the_same_and_connected(seed: int, taller: int, wider: int) -> None:
    made = hierarchy(seed, 13, 17)
    large = made.enlarged((13 + taller, 17 + wider))
    regions = large.at_count(9)
    assert regions.shape == (13 + taller, 17 + wider)
    assert np.array_equal(np.unique(regions), np.unique(made.at_count(9)))
    assert all(components(regions == region)[1] == 1 for region in range(regions.max() + 1))
    assert np.array_equal(made.enlarged((26, 34)).at_count(9)[::2, ::2], made.at_count(9))


def test_at_most_takes_the_coarser_of_count_and_threshold() -> None:
    made = hierarchy(1)
    middle = float(made.heights[made.count // 2])
    at_threshold = made.at_threshold(middle).max() + 1
    assert made.at_most(at_threshold + 5, middle).max() + 1 == at_threshold
    assert made.at_most(at_threshold - 5, middle).max() + 1 == at_threshold - 5


def test_square_is_separate_until_its_contour_goes() -> None:
    strength = np.zeros((40, 50), np.float32)
    strength[10, 10:31] = strength[30, 10:31] = strength[10:31, 10] = strength[10:31, 30] = 0.7
    strength[20, 10:31] = 0.3  # a weaker line within
    made = owt_ucm(from_strength(strength))
    two = made.at_count(2)
    assert two[20, 20] == two[15, 20] != two[2, 2]
    three = made.at_count(3)
    assert len({int(three[15, 20]), int(three[25, 20]), int(three[2, 2])}) == 3
    assert 0.1 < made.heights[-2] < 0.35 < made.heights[-1] < 0.75


def test_specks_go_first_if_requested() -> None:
    strength = np.zeros((60, 60), np.float32)
    strength[:, 30] = 0.5
    strength[8, 8:13] = strength[12, 8:13] = strength[8:13, 8] = strength[8:13, 12] = 0.9
    assert owt_ucm(from_strength(strength)).at_count(2)[10, 10] != owt_ucm(from_strength(strength)).at_count(2)[5, 5]
    halves = owt_ucm(from_strength(strength), small_share=0.05).at_count(2)
    assert halves[10, 10] == halves[5, 5] != halves[5, 50]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (2, 3)])
def test_ucm_odd_sizes_are_covered(shape: tuple[int, int]) -> None:
    made = hierarchy(0, *shape)
    assert made.at_count(1).tolist() == np.zeros(shape).tolist()
    assert made.to_ucm2().shape == (2 * shape[0] + 1, 2 * shape[1] + 1)


def test_flat_image_is_one_region() -> None:
    made = owt_ucm(from_strength(np.zeros((20, 30), np.float32)))
    assert made.count == 1
    assert made.at_count(48).max() == 0
    assert not made.to_ucm2().any()


@pytest.mark.parametrize("count", [0, -3])
def test_no_regions_are_refused(count: int) -> None:
    for cut in (hierarchy(0).at_count, hierarchy(0).at_most):
        with pytest.raises(ValueError, match="positive number of regions"):
            cut(count)


@with_bsds
def test_published_maps_are_read_and_written_as_they_are() -> None:
    for path in sorted((BSDS / "ucm2/train").glob("*.mat"))[:2]:
        ucm2 = read_ucm2(path)
        ours = from_ucm2(ucm2).to_ucm2()
        np.testing.assert_allclose(ours[1:-1, 1:-1], ucm2[1:-1, 1:-1], atol=1e-6)
