"""Labels drawn over an image."""

import numpy as np

from clips4.outputs.drawing import best_crop, mean_colors, outlined, painted
from clips4.utils.images import boundaries, palette
from tests.helpers import noise_image


def halves(height: int = 40, width: int = 60) -> np.ndarray:
    """(H, W) labels: 0 on the left, 1 on the right."""
    labels = np.zeros((height, width), np.int64)
    labels[:, width // 2 :] = 1
    return labels


def test_outlines_are_white_in_a_dark_border_and_leave_the_rest() -> None:
    image, labels = noise_image(40, 60) // 2, halves()
    drawn = outlined(image, labels)
    assert (drawn[boundaries(labels)] == 255).all()
    assert (drawn[:, 30] <= image[:, 30]).all()
    np.testing.assert_array_equal(drawn[:, :27], image[:, :27])
    np.testing.assert_array_equal(outlined(image, np.zeros_like(labels)), image)


def test_mean_colors_are_means() -> None:
    image, labels = noise_image(40, 60), halves()
    drawn = mean_colors(image, labels)
    assert (drawn[:, 30:] == image[:, 30:].reshape(-1, 3).mean(0).astype(np.uint8)).all()
    assert (drawn[:, 29] == 255).all()


def test_painted_images_have_the_color_of_each_label() -> None:
    image, colors = np.full((40, 60, 3), 128, np.uint8), palette(2)
    drawn = painted(image, halves(), colors, numbered_from=2)
    np.testing.assert_allclose(drawn[5, 5], 0.38 * 128 + 0.62 * colors[0], atol=1)
    np.testing.assert_allclose(drawn[5, 50], 0.38 * 128 + 0.62 * colors[1], atol=1)


def test_only_unknown_labels_with_room_are_numbered() -> None:
    image, labels, colors = np.full((60, 90, 3), 128, np.uint8), halves(60, 90), palette(3)
    labels[:3, :3] = 2
    plain, numbered = (painted(image, labels, colors, numbered_from=start) for start in (3, 1))
    changed = (plain != numbered).any(-1)
    assert changed[:, 45:].any()
    assert not changed[:, :45].any()


def test_crop_is_where_the_mask_is() -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    own = np.zeros((60, 90), bool)
    own[10:30, 60:80] = True
    image[own] = (10, 200, 30)
    crop = best_crop(image, own)
    assert crop.shape == (27, 27, 3)
    assert (crop == (10, 200, 30)).all(-1).sum() == 400
    assert (crop >= 190).all(-1).sum() == 27 * 27 - 400
    assert best_crop(image, own[::-1, ::-1]).shape == (27, 27, 3)
