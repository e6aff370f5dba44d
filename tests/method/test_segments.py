from itertools import pairwise

import pytest
import torch
from hypothesis import given
from torch import Tensor

from clips4.data.label_maps import IGNORED
from clips4.method.segments import (
    cut_by_regions,
    flatten_pixels,
    grid_labels,
    grid_shape,
    locations,
    pool,
    spherical_kmeans,
)
from tests.helpers import generator, provable, rotation, same_gradients, seeds, unit
from tests.reference import segments as reference


def integers(high: int, *shape: int, seed: int, low: int = 0) -> Tensor:
    return torch.randint(low, high, shape, generator=generator(seed))


# ------------------------------------------------------------------------------------------------------------ grid


@pytest.mark.parametrize(
    ("clusters", "shape"),
    [(1, (1, 1)), (2, (1, 2)), (7, (1, 7)), (12, (3, 4)), (16, (4, 4)), (18, (3, 6)), ((5, 2), (5, 2))],
)
def test_grid_shape_is_the_one_given_or_nearest_to_square(
    clusters: int | tuple[int, int], shape: tuple[int, int]
) -> None:
    assert grid_shape(clusters) == shape


@pytest.mark.parametrize("clusters", [0, -4, (0, 3), (3, 0), (-1, -1)])
def test_grid_shape_refuses_no_clusters(clusters: int | tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        grid_shape(clusters)


def test_grid_labels_count_row_by_row() -> None:
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert grid_labels(4, 4, 2, 2).tolist() == expected


def test_grid_finer_than_the_map_skips_numbers_but_stays_in_range() -> None:
    assert grid_labels(1, 2, 3, 4).tolist() == [[0, 2]]


def test_locations_are_pixel_centers_symmetric_about_zero() -> None:
    place = locations(2, 4, torch.zeros((), dtype=torch.float64))
    assert place.dtype == torch.float64
    assert place[0].tolist() == [[-0.5] * 4, [0.5] * 4]
    assert place[1].tolist() == [[-0.75, -0.25, 0.25, 0.75]] * 2


# ------------------------------------------------------------------------------------------------ spherical k-means


@pytest.mark.parametrize("location_weight", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("iterations", [0, 1, 4])
@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(6, 6, 2, 2), (5, 7, 2, 3), (1, 4, 1, 3)])
def test_kmeans_equals_the_reference(
    height: int, width: int, rows: int, columns: int, iterations: int, location_weight: float
) -> None:
    z = unit(2, 4, height, width, seed=height + iterations, dim=1)
    labels = spherical_kmeans(z, (rows, columns), iterations, location_weight)
    assert labels.dtype == torch.int64
    assert torch.equal(labels, reference.spherical_kmeans(z, rows, columns, iterations, location_weight))


def test_kmeans_of_no_iterations_is_the_grid() -> None:
    z = unit(3, 4, 5, 6, dim=1)
    assert torch.equal(spherical_kmeans(z, 6, 0, 0.5), grid_labels(5, 6, 2, 3).expand(3, -1, -1))


def test_kmeans_finds_two_halves_that_the_grid_cuts_wrongly() -> None:
    z = torch.zeros(1, 2, 6, 6, dtype=torch.float64)
    z[:, 0, :, :2] = 1  # the grid's border is at column 3
    z[:, 1, :, 2:] = 1
    labels = spherical_kmeans(z, (1, 2), 3, 0.0)[0]
    assert torch.equal(labels, torch.tensor([[0, 0, 1, 1, 1, 1]]).expand(6, -1))


def test_kmeans_gives_ties_to_the_lowest_index_and_lost_clusters_stay_empty() -> None:
    z = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    z[:, 1] = 1
    assert torch.equal(spherical_kmeans(z, 4, 5, 0.0), torch.zeros(1, 4, 4, dtype=torch.int64))


def test_kmeans_gives_nothing_to_an_empty_cluster_even_where_all_others_are_opposite() -> None:
    z = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64).view(1, 1, 1, 3)
    assert spherical_kmeans(z, (2, 1), 1, 0.0).tolist() == [[[0, 0, 0]]]


def test_kmeans_of_one_pixel() -> None:
    assert spherical_kmeans(unit(1, 3, 1, 1, dim=1), (1, 1), 3, 0.5).tolist() == [[[0]]]


def test_kmeans_of_fewer_pixels_than_clusters_stays_in_range() -> None:
    labels = spherical_kmeans(unit(2, 3, 2, 3, dim=1), 16, 5, 0.5)
    assert labels.min() >= 0
    assert labels.max() < 16


def test_large_location_weight_clusters_by_place_alone() -> None:
    z = unit(1, 4, 4, 4, dim=1)
    assert torch.equal(spherical_kmeans(z, (2, 2), 4, 1e6), grid_labels(4, 4, 2, 2)[None])


def test_kmeans_clusters_each_view_on_its_own() -> None:
    z = unit(3, 4, 5, 5, dim=1)
    alone = torch.cat([spherical_kmeans(view[None], 4, 6, 0.3) for view in z])
    assert torch.equal(spherical_kmeans(z, 4, 6, 0.3), alone)


def test_kmeans_gets_no_gradient() -> None:
    assert not spherical_kmeans(unit(1, 3, 4, 4, dim=1).requires_grad_(), 4, 2, 0.5).requires_grad


def test_kmeans_works_in_single_precision() -> None:
    z = unit(2, 8, 6, 6, dim=1, dtype=torch.float32)
    assert spherical_kmeans(z, 4, 5, 0.5).shape == (2, 6, 6)


@provable
@given(seeds)
def test_kmeans_does_not_depend_on_the_axes_of_the_embedding_space(seed: int) -> None:
    z = unit(1, 4, 5, 5, seed=seed, dim=1)
    rotated = torch.einsum("de,behw->bdhw", rotation(4, seed), z)
    assert torch.equal(spherical_kmeans(z, 4, 3, 0.5), spherical_kmeans(rotated, 4, 3, 0.5))


def cohesion(z: Tensor, labels: Tensor) -> Tensor:
    """Sum of cosines between pixels and the normalised sums of their clusters: what k-means increases."""
    pixels = flatten_pixels(z)
    centers = pool(pixels, labels.flatten(), int(labels.max()) + 1)
    return (pixels * centers[labels.flatten()]).sum()


@provable
@given(seeds)
def test_more_iterations_never_make_clusters_looser(seed: int) -> None:
    z = unit(1, 3, 6, 6, seed=seed, dim=1)
    course = [cohesion(z, spherical_kmeans(z, 4, iterations, 0.0)) for iterations in range(5)]
    assert all(later >= earlier - 1e-12 for earlier, later in pairwise(course))


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (1, 1, 3, 4, 4)])
def test_kmeans_refuses_other_than_four_dimensions(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, D, h, w\)"):
        spherical_kmeans(torch.ones(shape), 4, 1, 0.5)


# -------------------------------------------------------------------------------------------------- cut by regions


@provable
@given(seeds)
def test_segments_are_the_clusters_cut_by_the_regions(seed: int) -> None:
    clusters = integers(4, 3, 4, 5, seed=seed)
    regions = integers(6, 3, 4, 5, seed=seed + 1, low=-1)
    segments = cut_by_regions(clusters, regions)
    expected = reference.cut_by_regions(clusters, regions)

    found: dict[int, set[tuple[int, int, int]]] = {}
    for view, y, x in segments.labels.ne(IGNORED).nonzero().tolist():
        found.setdefault(int(segments.labels[view, y, x]), set()).add((view, y, x))
    assert sorted(found) == list(range(len(expected)))
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, expected.values()))
    place = {frozenset(pixels): (view, region) for (view, _, region), pixels in expected.items()}
    for label, pixels in found.items():
        assert place[frozenset(pixels)] == (int(segments.view[label]), int(segments.region[label]))
    assert len(segments.region) == len(segments.view) == len(expected)


def test_region_seen_in_both_views_gives_a_segment_in_each() -> None:
    regions = torch.tensor([[[0, 1]], [[1, 2]]])
    segments = cut_by_regions(torch.zeros_like(regions), regions)
    pairs = sorted(zip(segments.view.tolist(), segments.region.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 1), (1, 2)]


def test_pixels_of_no_region_belong_to_no_segment() -> None:
    regions = torch.tensor([[[0, IGNORED], [IGNORED, 7]]])
    segments = cut_by_regions(torch.zeros_like(regions), regions)
    assert segments.labels.tolist() == [[[0, IGNORED], [IGNORED, 1]]]
    assert segments.region.tolist() == [0, 7]


def test_view_without_any_region_has_no_segment() -> None:
    regions = torch.full((1, 2, 2), IGNORED)
    segments = cut_by_regions(torch.zeros_like(regions), regions)
    assert len(segments.region) == 0
    assert segments.labels.eq(IGNORED).all()


def test_one_region_leaves_the_clusters_as_they_are() -> None:
    clusters = torch.tensor([[[0, 5], [5, 9]]])
    segments = cut_by_regions(clusters, torch.zeros_like(clusters))
    assert segments.labels.tolist() == [[[0, 1], [1, 2]]]


def test_cut_by_regions_refuses_maps_of_different_shape() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        cut_by_regions(torch.zeros(1, 2, 2, dtype=torch.int64), torch.zeros(1, 2, 3, dtype=torch.int64))


# ------------------------------------------------------------------------------------------------------------ pool


@provable
@given(seeds)
def test_pool_and_its_gradient_equal_the_reference(seed: int) -> None:
    labels = integers(4, 15, seed=seed, low=-1)
    weight = unit(5, 3, seed=seed + 1)
    same_gradients(
        lambda z: (pool(z, labels, 5) * weight).sum(),
        lambda z: (reference.pool(z, labels, 5) * weight).sum(),
        unit(15, 3, seed=seed),
    )


def test_pool_double_precision_passes_gradcheck() -> None:
    z = unit(8, 3).requires_grad_()
    labels = torch.tensor([0, 1, 1, IGNORED, 2, 2, 2, 0])
    assert torch.autograd.gradcheck(lambda z: pool(z, labels, 3), (z,))


def test_pool_of_one_pixel_is_the_pixel_and_rows_are_unit() -> None:
    z = unit(6, 4)
    v = pool(z, torch.tensor([0, 1, 1, 1, 2, 2]), 3)
    torch.testing.assert_close(v[0], z[0])
    torch.testing.assert_close(v.norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_pool_of_orthogonal_pixels_lies_between_them() -> None:
    v = pool(torch.eye(2, dtype=torch.float64), torch.tensor([0, 0]), 1)
    torch.testing.assert_close(v, torch.full((1, 2), 0.5**0.5, dtype=torch.float64))


def test_pool_of_no_pixels_is_zero_and_ignored_pixels_change_nothing() -> None:
    z = unit(3, 4).requires_grad_()
    v = pool(z, torch.tensor([1, IGNORED, 1]), 3)
    assert v[0].abs().max() == 0
    assert v[2].abs().max() == 0
    (gradient,) = torch.autograd.grad(v[:, 0].sum(), z)
    assert gradient[1].abs().max() == 0
    assert gradient[0].abs().max() > 0


def test_pool_of_all_ignored_gives_finite_zero_gradients() -> None:
    z = unit(3, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(pool(z, torch.full((3,), IGNORED), 2).sum(), z)
    assert gradient.eq(0).all()


def test_pool_to_no_segment() -> None:
    assert pool(unit(3, 4), torch.full((3,), IGNORED), 0).shape == (0, 4)


@provable
@given(seeds)
def test_pool_does_not_depend_on_the_order_of_pixels(seed: int) -> None:
    z, labels = unit(12, 3, seed=seed), integers(3, 12, seed=seed)
    order = torch.randperm(12, generator=generator(seed))
    torch.testing.assert_close(pool(z[order], labels[order], 3), pool(z, labels, 3), rtol=0, atol=1e-12)


def test_pool_keeps_its_type() -> None:
    assert pool(unit(4, 3, dtype=torch.float32), torch.zeros(4, dtype=torch.int64), 1).dtype == torch.float32


@pytest.mark.parametrize(("z", "labels"), [((4, 3, 2), (4,)), ((4, 3), (3,)), ((4, 3), (4, 1)), ((4,), (4,))])
def test_pool_refuses_shapes_that_do_not_fit(z: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(P, D\)"):
        pool(torch.ones(z), torch.zeros(labels, dtype=torch.int64), 1)


def test_flatten_pixels_has_the_order_of_flattened_labels() -> None:
    labels = torch.arange(2 * 3 * 4).view(2, 3, 4)
    maps = torch.stack([labels, -labels], 1).double()
    assert flatten_pixels(maps)[:, 0].tolist() == labels.flatten().tolist()
    assert flatten_pixels(maps)[:, 1].tolist() == (-labels).flatten().tolist()


def test_segments_of_a_batch_pool_to_unit_vectors() -> None:
    z = unit(4, 8, 6, 6, dim=1, dtype=torch.float32)
    segments = cut_by_regions(spherical_kmeans(z, 4, 5, 0.5), integers(5, 4, 6, 6, seed=1))
    v = pool(flatten_pixels(z), segments.labels.flatten(), len(segments.region))
    torch.testing.assert_close(v.norm(dim=1), torch.ones(len(v)))
