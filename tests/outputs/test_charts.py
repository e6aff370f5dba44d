import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clips4.outputs.charts import (
    Mark,
    best_crop,
    loss_chart,
    mark_shape,
    mean_colors,
    outlined,
    painted,
    pca_colors,
    scatter_chart,
    smooth,
    ticks,
    tsne,
)
from clips4.utils.images import boundaries, palette
from tests.helpers import noise_image, provable, seeds, unit


def halves(height: int = 40, width: int = 60) -> np.ndarray:
    """(H, W) labels: 0 on the left, 1 on the right."""
    labels = np.zeros((height, width), np.int64)
    labels[:, width // 2 :] = 1
    return labels


# ------------------------------------------------------------------------------------------------------------- PCA


def test_pca_colours_are_pictures_of_the_maps_sizes() -> None:
    colors = pca_colors([unit(8, 5, 7, dim=0), unit(8, 3, 4, seed=1, dim=0)])
    assert [each.shape for each in colors] == [(5, 7, 3), (3, 4, 3)]
    assert all(each.dtype == np.uint8 for each in colors)
    assert colors[0].min() == 0
    assert max(each.max() for each in colors) == 255


@provable
@given(seeds)
def test_pca_colours_do_not_depend_on_the_order_of_pictures(seed: int) -> None:
    maps = [unit(6, 4, 5, seed=seed + index, dim=0) for index in range(3)]
    for one, other in zip(pca_colors(maps), reversed(pca_colors(maps[::-1])), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_pca_colours_give_equal_vectors_equal_colours_across_pictures() -> None:
    first = unit(6, 4, 4, dim=0)
    second = unit(6, 4, 4, seed=1, dim=0)
    second[:, 2, 3] = first[:, 1, 1]
    one, other = pca_colors([first, second])
    assert (one[1, 1] == other[2, 3]).all()


def test_the_first_component_is_red() -> None:
    ramp = torch.linspace(-1, 1, 50)
    noise = 0.01 * unit(50, seed=1, dtype=torch.float32)
    red = pca_colors([torch.stack([noise, noise.flip(0), 2 * ramp, 0.1 * noise])[:, None]])[0][0, :, 0]
    assert (np.diff(red.astype(int)) >= 0).all()
    assert red[0] == 0
    assert red[-1] == 255


def test_pca_channels_without_a_component_are_grey() -> None:
    assert (pca_colors([torch.ones(5, 3, 3)])[0] == 128).all()
    two = pca_colors([unit(2, 6, 6, dim=0)])[0]
    assert (two[..., 2] == 128).all()
    assert np.ptp(two[..., 0]) > 100


# ----------------------------------------------------------------------------------------------------------- t-SNE


def test_tsne_keeps_neighbours_together_and_repeats_itself() -> None:
    centers = torch.eye(5)[:2].repeat_interleave(12, 0)
    vectors = (centers + 0.02 * unit(24, 5, dtype=torch.float32)).numpy()
    places = tsne(vectors, seed=3)
    assert places.shape == (24, 2)
    assert places.min() == 0
    assert places.max() == 1
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(24) * 9
    assert (distance.argmin(1) // 12 == np.arange(24) // 12).all()
    np.testing.assert_array_equal(places, tsne(vectors, seed=3))


@pytest.mark.parametrize("shape", [(3, 5), (8,)])
def test_tsne_names_a_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"N > 3, got \("):
        tsne(np.ones(shape))


# ------------------------------------------------------------------------------------------- labels over a picture


def test_outlines_are_white_in_a_dark_border_and_leave_the_rest() -> None:
    image, labels = noise_image(40, 60) // 2, halves()
    drawn = outlined(image, labels)
    assert (drawn[boundaries(labels)] == 255).all()
    assert (drawn[:, 30] <= image[:, 30]).all()
    np.testing.assert_array_equal(drawn[:, :27], image[:, :27])
    np.testing.assert_array_equal(outlined(image, np.zeros_like(labels)), image)


def test_mean_colours_are_means() -> None:
    image, labels = noise_image(40, 60), halves()
    drawn = mean_colors(image, labels)
    assert (drawn[:, 30:] == image[:, 30:].reshape(-1, 3).mean(0).astype(np.uint8)).all()
    assert (drawn[:, 29] == 255).all()


def test_painted_pictures_have_the_colour_of_each_label() -> None:
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


def test_the_crop_is_where_the_mask_is() -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    own = np.zeros((60, 90), bool)
    own[10:30, 60:80] = True
    image[own] = (10, 200, 30)
    crop = best_crop(image, own)
    assert crop.shape == (27, 27, 3)
    assert (crop == (10, 200, 30)).all(-1).sum() == 400
    assert (crop >= 190).all(-1).sum() == 27 * 27 - 400
    assert best_crop(image, own[::-1, ::-1]).shape == (27, 27, 3)


# ---------------------------------------------------------------------------------------------------------- charts


@provable
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.integers(1, 9))
def test_smooth_is_a_running_mean(values: list[float], window: int) -> None:
    half = window // 2
    naive = [np.mean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
    np.testing.assert_allclose(smooth(values, window), naive, atol=1e-9)


@provable
@given(st.floats(-100, 100), st.floats(0.01, 1000))
def test_ticks_lie_within_and_are_evenly_spaced(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 3 <= len(found) <= 8
    assert found[0] >= low - 1e-5 * width
    assert found[-1] <= low + width * (1 + 1e-5)
    np.testing.assert_allclose(np.diff(found), found[1] - found[0])


@pytest.mark.parametrize("values", [[2.0], [0.5, 0.5, 0.5], [3.0, 1.0, 2.0, -1.0], list(np.linspace(9, 1, 1500))])
def test_loss_charts_are_svg_within_their_frame(values: list[float]) -> None:
    svg = ET.fromstring(loss_chart("a <b> & c", range(1, len(values) + 1), values))
    width, height = (float(value) for value in svg.attrib["viewBox"].split()[2:])
    assert svg.attrib["aria-label"].startswith("a <b> & c: ")
    lines = [line.attrib["points"].split() for line in svg.iter("polyline")]
    assert len(lines) == 2
    assert len(lines[0]) <= 500
    for x, y in (point.split(",") for line in lines for point in line):
        assert 0 <= float(x) <= width
        assert 0 <= float(y) <= height


def test_a_loss_chart_wants_a_value_for_each_step() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        loss_chart("loss", [1, 2], [0.1])
    with pytest.raises(ValueError, match="got 0 and 0"):
        loss_chart("loss", [], [])


def test_the_five_signs_differ() -> None:
    assert len({mark_shape(kind, 5, 5, "red") for kind in ("student", "teacher", "unknown", "known", "text")}) == 5


def test_labels_of_a_scatter_chart_stand_clear_of_each_other() -> None:
    random, font = np.random.default_rng(0), 20
    marks = [Mark("text", x, y, "#000", f"name {i}") for i, (x, y) in enumerate(random.uniform(0.3, 0.7, (8, 2)))]
    marks += [Mark("unknown", x, y, "#888", f"u{i}") for i, (x, y) in enumerate(random.uniform(0, 1, (30, 2)))]
    marks += [Mark("student", 1, 0, "#123456"), Mark("text", 0, 1, "#000", "<&>")]
    svg = ET.fromstring(scatter_chart("view", marks, font=font))
    texts = [(t.text or "", float(t.attrib["x"]), float(t.attrib["y"])) for t in svg.iter("text")]
    assert {f"name {i}" for i in range(8)} | {"<&>"} <= {text for text, _, _ in texts}
    assert len(texts) > 20
    for i, (text, x, y) in enumerate(texts):
        assert 0 <= x <= 640
        assert 0 <= y <= 640
        for other, other_x, other_y in texts[:i]:
            apart = abs(x - other_x) >= 0.3 * font * (len(text) + len(other)) - 0.2 or abs(y - other_y) >= font
            assert apart, (text, other)
    (dot,) = svg.iter("circle")
    assert (dot.attrib["fill"], dot.attrib["cx"], dot.attrib["cy"]) == ("#123456", "606.0", "606.0")
