"""Polygons give their mask back by both ways of filling, with and without holes."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.measure import approximate_polygon

from clips4.outputs.polygons import Polygon, outlines, polygon_of, signed_area, simplify
from tests.helpers import provable, seeds

Mask = NDArray[np.bool_]


def blob(seed: int, height: int = 60, width: int = 80, smooth: float = 2.0) -> Mask:
    """The largest connected part of smoothed noise: ragged, mostly with holes."""
    noise = np.random.default_rng(seed).normal(size=(height, width))
    mask = ndimage.gaussian_filter(noise, smooth) > 0.005
    numbered, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    return numbered == np.bincount(numbered.ravel())[1:].argmax() + 1


def by_centers(polygon: Polygon, shape: tuple[int, ...]) -> Mask:
    """Pixels whose centers lie within."""
    return polygon2mask(shape, polygon[:, ::-1] - 0.5)


def by_opencv(polygon: Polygon, shape: tuple[int, ...]) -> Mask:
    """As trainers on YOLO's labels fill them: truncated corners, lines included."""
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.trunc(polygon).astype(np.int32)], 1)
    return canvas.astype(bool)


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum())


@provable
@given(seeds, st.sampled_from([1.0, 2.0, 4.0]))
def test_polygon_of_without_tolerance_is_exact(seed: int, smooth: float) -> None:
    mask = blob(seed, smooth=smooth)
    polygon = polygon_of(mask, tolerance=0)
    np.testing.assert_array_equal(by_centers(polygon, mask.shape), mask)
    np.testing.assert_array_equal(by_opencv(polygon, mask.shape), mask)


@pytest.mark.parametrize("seed", range(8))
def test_polygon_of_with_tolerance_is_near_and_short(seed: int) -> None:
    mask = blob(seed, 240, 320, 8.0)
    polygon, whole = polygon_of(mask), polygon_of(mask, tolerance=0)
    assert iou(by_centers(polygon, mask.shape), mask) > 0.97
    assert iou(by_opencv(polygon, mask.shape), mask) > 0.97
    assert len(polygon) < 0.5 * len(whole)


@provable
@given(seeds, st.sampled_from([0.3, 0.5, 2.0]))
def test_simplify_equals_scikit_image(seed: int, tolerance: float) -> None:
    """On walks at random angles, where no two points are as far."""
    line = np.random.default_rng(seed).normal(size=(60, 2)).cumsum(0)
    for each in (line, np.concatenate([line, line[:1]])):
        np.testing.assert_array_equal(simplify(each, tolerance), approximate_polygon(each, tolerance))


def test_outlines_holes_are_found_and_left_empty() -> None:
    mask = np.zeros((40, 50), bool)
    mask[5:35, 5:45] = True
    mask[10:20, 10:20] = mask[25:30, 30:40] = False
    _, holes = outlines(mask)
    assert len(holes) == 2
    areas = sorted(abs(signed_area(hole)) for hole in holes)
    assert areas == pytest.approx([5.5 * 10.5, 10.5 * 10.5], abs=1.5), "a quarter pixel larger, corners cut"
    np.testing.assert_array_equal(by_centers(polygon_of(mask), mask.shape), mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 2), (30, 40)])
def test_polygon_of_full_and_thin_masks(shape: tuple[int, int]) -> None:
    mask = np.ones(shape, bool)
    polygon = polygon_of(mask)
    assert len(polygon) >= 3
    assert polygon.min() >= 0
    assert (polygon.max(0) <= (shape[1], shape[0])).all()
    np.testing.assert_array_equal(by_centers(polygon, shape), mask)


def test_outlines_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="no outline"):
        outlines(np.zeros((3, 3), bool))
