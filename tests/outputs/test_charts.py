import re
import xml.etree.ElementTree as ET
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clips4.outputs.charts import MARKERS, Kind, Mark, loss_chart, pca_colors, scatter_chart, smooth, tsne
from tests.helpers import provable, seeds, unit

# ------------------------------------------------------------------------------------------------------------- PCA


def test_pca_colors_are_images_of_the_maps_sizes() -> None:
    colors = pca_colors([unit(8, 5, 7, dim=0).numpy(), unit(8, 3, 4, seed=1, dim=0).numpy()])
    assert [each.shape for each in colors] == [(5, 7, 3), (3, 4, 3)]
    assert all(each.dtype == np.uint8 for each in colors)
    assert colors[0].min() == 0
    assert max(each.max() for each in colors) == 255


@provable
@given(seeds)
def test_pca_colors_do_not_depend_on_the_order_of_images(seed: int) -> None:
    maps = [unit(6, 4, 5, seed=seed + index, dim=0).numpy() for index in range(3)]
    for one, other in zip(pca_colors(maps), reversed(pca_colors(maps[::-1])), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_pca_colors_give_equal_vectors_equal_colors_across_images() -> None:
    first = unit(6, 4, 4, dim=0).numpy()
    second = unit(6, 4, 4, seed=1, dim=0).numpy()
    second[:, 2, 3] = first[:, 1, 1]
    one, other = pca_colors([first, second])
    assert (one[1, 1] == other[2, 3]).all()


def test_first_component_is_red() -> None:
    ramp = torch.linspace(-1, 1, 50)
    noise = 0.01 * unit(50, seed=1, dtype=torch.float32)
    red = pca_colors([torch.stack([noise, noise.flip(0), 2 * ramp, 0.1 * noise])[:, None].numpy()])[0][0, :, 0]
    assert (np.diff(red.astype(int)) >= 0).all()
    assert red[0] == 0
    assert red[-1] == 255


def test_pca_channels_without_a_component_are_gray() -> None:
    assert (pca_colors([np.ones((5, 3, 3))])[0] == 128).all()
    two = pca_colors([unit(2, 6, 6, dim=0).numpy()])[0]
    assert (two[..., 2] == 128).all()
    assert np.ptp(two[..., 0]) > 100


# ----------------------------------------------------------------------------------------------------------- t-SNE


def test_tsne_keeps_neighbors_together_and_repeats_itself() -> None:
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


# ---------------------------------------------------------------------------------------------------------- charts


@provable
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.integers(1, 9))
def test_smooth_is_a_running_mean(values: list[float], window: int) -> None:
    half = window // 2
    naive = [np.mean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
    np.testing.assert_allclose(smooth(values, window), naive, atol=1e-9)


@pytest.mark.parametrize("values", [[2.0], [0.5, 0.5, 0.5], [3.0, 1.0, 2.0, -1.0], list(np.linspace(9, 1, 1500))])
def test_loss_chart_any_values_is_svg_within_its_frame(values: list[float]) -> None:
    chart = loss_chart("a <b> & c", range(1, len(values) + 1), values)
    svg = ET.fromstring(chart)
    assert svg.attrib["class"] == "chart"
    assert svg.attrib["aria-label"].startswith("a <b> & c: ")
    width, height = (float(value) for value in svg.attrib["viewBox"].split()[2:])
    lines = [path.attrib["d"] for path in svg.iter("path") if "var(--accent)" in path.attrib["style"]]
    assert len(lines) == 2, "as logged and as running mean"
    for line in lines:
        points = [pair.split() for pair in re.findall(r"[\d.]+ [\d.]+", line)]
        assert len(points) <= 500
        assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in points)
    assert "step" in [text.text for text in svg.iter("text")]
    assert loss_chart("a <b> & c", range(1, len(values) + 1), values) == chart, "the same chart is the same text"


def test_loss_chart_in_a_page_takes_its_colors_and_loads_nothing() -> None:
    chart = loss_chart("loss", [1, 2, 3], [3.0, 2.0, 1.0])
    assert "currentColor" in chart
    assert not re.search(r"#[0-9a-f]{6}|url\(|https?:|<style|<metadata|xlink", chart)


def test_loss_chart_wants_a_value_for_each_step() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        loss_chart("loss", [1, 2], [0.1])
    with pytest.raises(ValueError, match="got 0 and 0"):
        loss_chart("loss", [], [])


def test_scatter_chart_five_kinds_have_five_markers() -> None:
    kinds = get_args(Kind)
    assert set(MARKERS) == set(kinds)
    marks = [Mark(kind, index / 9, 0.5, "#123456") for kind in kinds for index in range(10)]
    svg = ET.fromstring(scatter_chart("view", marks))
    assert len({path.attrib["d"] for defs in svg.iter("defs") for path in defs.iter("path")}) == 5
    styles = [use.attrib.get("style", "") for use in svg.iter("use")]
    assert len(styles) == 50
    assert all("#123456" in style for style in styles)


def test_scatter_chart_labels_do_not_cover_each_other() -> None:
    random = np.random.default_rng(0)
    marks = [Mark("text", x, y, "#000", f"name {i}") for i, (x, y) in enumerate(random.uniform(0.3, 0.7, (8, 2)))]
    marks += [Mark("unknown", x, y, "#888", f"u{i}") for i, (x, y) in enumerate(random.uniform(0, 1, (30, 2)))]
    marks += [*[Mark("student", 1, 0, "#123456")] * 4, Mark("text", 0, 1, "#000", "<&> $a$")]
    chart = scatter_chart("view", marks)
    svg = ET.fromstring(chart)
    side = float(svg.attrib["viewBox"].split()[2])
    texts = [(t.text or "", float(t.attrib["x"]), float(t.attrib["y"])) for t in svg.iter("text")]
    assert {f"name {i}" for i in range(8)} | {"<&> $a$"} <= {text for text, _, _ in texts}
    assert len(texts) > 20
    for i, (text, x, y) in enumerate(texts):
        assert 0 <= x <= side
        assert 0 <= y <= side
        for other, other_x, other_y in texts[:i]:
            apart = abs(x - other_x) >= 4 * (len(text) + len(other)) or abs(y - other_y) >= 16
            assert apart, (text, other)
    dots = [use for use in svg.iter("use") if "#123456" in use.attrib["style"]]
    assert len(dots) == 4
    assert all(float(dot.attrib[axis]) > 0.9 * side for dot in dots for axis in ("x", "y"))
    assert scatter_chart("view", marks) == chart
