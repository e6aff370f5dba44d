import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from region_scores import within
from scipy.ndimage import label as components
from skimage import data

from clips4.errors import UserError
from clips4.regions.superpixels import Implementation, Method, choose_implementation, superpixels
from clips4.utils.images import RGB, boundaries
from tests.helpers import noise_image

METHODS: list[Method] = ["slic", "felzenszwalb"]
PHOTOGRAPH: RGB = data.chelsea()[::2, ::2]


def assert_partition(regions: NDArray[np.int32], image: RGB) -> None:
    """Labels 0..R-1, every one used, each of one connected piece."""
    assert regions.shape == image.shape[:2]
    assert regions.dtype == np.int32
    assert np.array_equal(np.unique(regions), np.arange(regions.max() + 1))
    for region in range(regions.max() + 1):
        assert components(regions == region, np.ones((3, 3)))[1] == 1, f"region {region} is in pieces"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 5, 48, 200])
def test_regions_of_a_photograph_are_whole_and_numbered_through(method: Method, count: int) -> None:
    assert_partition(superpixels(PHOTOGRAPH, method, count), PHOTOGRAPH)


@pytest.mark.parametrize("count", [20, 48, 100])
def test_slic_gives_about_the_count(count: int) -> None:
    assert 0.85 * count <= superpixels(PHOTOGRAPH, "slic", count).max() + 1 <= 1.15 * count


@pytest.mark.parametrize("implementation", ["scikit-image", "opencv"])
@pytest.mark.parametrize("count", [1, 5, 20, 48, 100])
def test_felzenszwalb_gives_at_most_the_count_and_nearly_so_many(count: int, implementation: Implementation) -> None:
    regions = superpixels(PHOTOGRAPH, "felzenszwalb", count, implementation)
    assert_partition(regions, PHOTOGRAPH)
    assert 0.6 * count <= regions.max() + 1 <= count


@pytest.mark.parametrize("method", METHODS)
def test_regions_follow_a_strong_edge(method: Method) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 23:] = 255
    regions = superpixels(image, method, 12)
    left, right = set(regions[:, :22].flat), set(regions[:, 24:].flat)
    assert not left & right


@pytest.mark.parametrize("method", METHODS)
def test_regions_are_the_same_every_time(method: Method) -> None:
    assert np.array_equal(superpixels(PHOTOGRAPH, method, 48), superpixels(PHOTOGRAPH, method, 48))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (2, 3), (32, 500)])
def test_superpixels_odd_sizes_are_covered(method: Method, height: int, width: int) -> None:
    image = noise_image(height, width)
    assert_partition(superpixels(image, method, 48), image)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_image_of_one_color(method: Method, value: int) -> None:
    image = np.full((40, 60, 3), value, np.uint8)
    assert_partition(superpixels(image, method, 12), image)


@pytest.mark.parametrize("method", METHODS)
def test_more_regions_than_pixels(method: Method) -> None:
    image = noise_image(6, 7)
    assert_partition(superpixels(image, method, 1000), image)


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 4), (1, 40, 60, 3)])
def test_other_than_rgb_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected image \(H, W, 3\)"):
        superpixels(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("count", [0, -1])
def test_no_regions_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="positive number of regions"):
        superpixels(PHOTOGRAPH, "slic", count)


def test_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="method is 'slic' or 'felzenszwalb'"):
        superpixels(PHOTOGRAPH, "watershed")


def test_opencv_is_taken_where_it_is_there_and_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_implementation("felzenszwalb", "auto") == "opencv"
    assert choose_implementation("felzenszwalb", "scikit-image") == "scikit-image"
    assert choose_implementation("slic", "auto") == "scikit-image"
    with pytest.raises(UserError, match="has felzenszwalb only"):
        choose_implementation("slic", "opencv")
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert choose_implementation("felzenszwalb", "auto") == "scikit-image"
    with pytest.raises(UserError, match=r"pip install 'clips4\[opencv\]'"):
        choose_implementation("felzenszwalb", "opencv")


def test_both_implementations_of_felzenszwalb_find_the_same_borders() -> None:
    ours, theirs = (boundaries(superpixels(PHOTOGRAPH, "felzenszwalb", 48, i)) for i in ("scikit-image", "opencv"))
    assert (ours & within(theirs, 3)).sum() > 0.7 * ours.sum()
    assert (theirs & within(ours, 3)).sum() > 0.7 * theirs.sum()
