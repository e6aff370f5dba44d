"""The oriented watershed: leaves, cracks, arcs and their straight pieces, against slow versions and by eye."""

import math

import numpy as np
import pytest
from hypothesis import given
from scipy.ndimage import label as components

from clips4.regions.contour_map import ContourMap, from_strength, max_strength
from clips4.regions.watershed import (
    arc_directions,
    basins,
    boundary_cracks,
    oriented_watershed,
    straight_pieces,
    strength_across,
    trace_arcs,
)
from tests.helpers import provable, seeds
from tests.reference import regions as slow


def random_strength(seed: int, height: int = 17, width: int = 23) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width)).astype(np.float32)


def random_labels(seed: int) -> np.ndarray:
    return basins(random_strength(seed))


@provable
@given(seeds)
def test_every_pixel_lies_in_one_connected_basin(seed: int) -> None:
    labels = random_labels(seed)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert components(np.ones_like(labels))[1] == 1
    for basin in range(labels.max() + 1):
        assert components(labels == basin)[1] == 1  # by the four neighbours


def test_basins_are_divided_along_the_ridge() -> None:
    strength = np.zeros((12, 20), np.float32)
    strength[:, 9] = 0.8
    labels = basins(strength)
    assert labels.max() == 1
    assert len(np.unique(labels[:, :9])) == len(np.unique(labels[:, 10:])) == 1


@provable
@given(seeds)
def test_cracks_are_those_of_the_slow_version(seed: int) -> None:
    labels = random_labels(seed)
    found = boundary_cracks(labels)
    pairs = [tuple(tuple(map(int, divmod(p, labels.shape[1]))) for p in pair) for pair in found.pixels.tolist()]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == slow.cracks(labels)


@provable
@given(seeds)
def test_ends_of_a_crack_touch_both_its_pixels(seed: int) -> None:
    labels = random_labels(seed)
    width = labels.shape[1]
    for pixels, vertices in zip(*(part.tolist() for part in boundary_cracks(labels)), strict=True):
        corners: list[set[int]] = [set(), set()]
        for side, pixel in zip(corners, pixels, strict=True):
            y, x = divmod(pixel, width)
            side |= {(y + dy) * (width + 1) + x + dx for dy in (0, 1) for dx in (0, 1)}
        assert corners[0] & corners[1] == set(vertices)


@provable
@given(seeds)
def test_arcs_run_from_end_to_end_through_every_crack_once(seed: int) -> None:
    vertices = boundary_cracks(random_labels(seed)).vertices
    order, chain, start, end = trace_arcs(vertices)
    assert sorted(order.tolist()) == list(range(len(vertices)))
    assert all({a, b} == set(vertices[c]) for c, a, b in zip(order, start, end, strict=True))
    degree = np.bincount(vertices.ravel())
    for number in range(chain.max() + 1):
        at = np.flatnonzero(chain == number)
        assert np.array_equal(at, np.arange(at[0], at[-1] + 1))
        assert np.array_equal(end[at[:-1]], start[at[1:]])
        assert (degree[start[at[1:]]] == 2).all(), "an arc runs through a junction"
        if start[at[0]] != end[at[-1]]:
            assert degree[start[at[0]]] != 2
            assert degree[end[at[-1]]] != 2


def test_rings_are_arcs_too() -> None:
    labels = np.zeros((9, 16), int)
    labels[2:5, 2:6] = 1
    labels[3:7, 9:13] = 2
    _, chain, start, end = trace_arcs(boundary_cracks(labels).vertices)
    assert np.bincount(chain).tolist() == [14, 16]
    for number in (0, 1):
        at = np.flatnonzero(chain == number)
        assert start[at[0]] == end[at[-1]]
        assert len(set(start[at].tolist())) == len(at)


@provable
@given(seeds)
def test_straight_pieces_are_those_of_the_recursion(seed: int) -> None:
    random = np.random.default_rng(seed)
    walks, chain, expected = [], [], []
    for number in range(3):
        corners = np.cumsum(random.integers(-2, 3, (random.integers(2, 30), 2)), 0) + random.random(2) * 1e-3
        walks.append(np.stack([corners[:-1], corners[1:]], 1))
        chain += [number] * (len(corners) - 1)
        begin = len(chain) - len(corners) + 1
        expected += [begin + at for at in slow.straight_pieces([tuple(c) for c in corners.tolist()], 1.5)]
    piece = straight_pieces(np.concatenate(walks), np.array(chain), 1.5)
    assert np.flatnonzero(np.r_[True, np.diff(piece) > 0]).tolist() == expected


@pytest.mark.parametrize("angle", [0, 20, 45, 70, 90, 130])
def test_direction_and_length_of_a_straight_border(angle: int) -> None:
    along = np.array([math.sin(math.radians(angle)), math.cos(math.radians(angle))])
    y, x = np.mgrid[:81, :81] - 40
    labels = (y * along[1] - x * along[0] > 0.1).astype(int)
    cracks = boundary_cracks(labels)
    direction, length = arc_directions(cracks, 82)
    assert np.abs(direction @ along).min() > math.cos(math.radians(3))
    np.testing.assert_allclose(np.hypot(*direction.T), 1, atol=1e-9)
    expected = 81 / max(abs(along[0]), abs(along[1]))
    assert length.sum() == pytest.approx(expected, rel=0.03)


def test_strength_across_is_that_of_the_normal() -> None:
    tensor = np.zeros((3, 4, 4), np.float32)
    tensor[0] = 0.36  # strength .6 where x changes, none where y does
    contours = ContourMap(max_strength(tensor), tensor)
    pixels = np.array([[0, 1], [0, 4], [0, 1]])
    along = np.array([[1.0, 0.0], [0.0, 1.0], [math.sqrt(0.5), math.sqrt(0.5)]])
    np.testing.assert_allclose(strength_across(contours, pixels, along), [0.6, 0, 0.6 * math.sqrt(0.5)], atol=1e-6)


def test_arc_that_crosses_a_contour_is_weaker_than_one_along_it() -> None:
    y = np.mgrid[:60, :80][0]
    ridge = np.exp(-((y - 29.5) ** 2) / 8).astype(np.float32)
    contours = from_strength(ridge)
    at = np.array([[29 * 80 + 40, 29 * 80 + 41], [29 * 80 + 40, 30 * 80 + 40]])
    crossing, along = strength_across(contours, at, np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert along == pytest.approx(ridge[29, 40], rel=0.02)
    assert crossing == pytest.approx(math.sqrt(0.1) * along, rel=0.05)
    plain = strength_across(from_strength(ridge, isotropy=1.0), at, np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert plain[0] == pytest.approx(plain[1])


def test_arcs_sum_over_the_shared_boundary() -> None:
    arcs = oriented_watershed(from_strength(random_strength(3, 30, 40), isotropy=1.0))
    assert (arcs.pairs[:, 0] < arcs.pairs[:, 1]).all()
    touching = {tuple(sorted((int(arcs.leaves[p]), int(arcs.leaves[q])))) for p, q in slow.cracks(arcs.leaves)}
    assert {tuple(pair) for pair in arcs.pairs.tolist()} == touching
    assert (arcs.lengths > 0).all()
    assert (arcs.sums / arcs.lengths <= 1).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_watershed_odd_sizes_are_covered(shape: tuple[int, int]) -> None:
    arcs = oriented_watershed(from_strength(random_strength(0, *shape)))
    assert arcs.leaves.shape == shape
    assert len(arcs.pairs) >= arcs.leaves.max()
