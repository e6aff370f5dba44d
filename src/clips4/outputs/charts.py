"""Figures of embeddings and losses: PCA colours, t-SNE, and charts as SVG text that takes its colours from the page."""

from collections.abc import Sequence
from html import escape
from math import ceil, cos, floor, hypot, log10, pi, sin
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from clips4.utils.images import RGB, blend, boundaries, color_labels

if TYPE_CHECKING:
    from torch import Tensor

_MAX_POINTS = 500  # of a drawn line; more would not be seen


def pca_colors(maps: "Sequence[Tensor]") -> list[RGB]:
    """Pixel embeddings as colours: their first three principal components over all maps are red, green and blue.

    One basis serves all maps, so that a colour means the same in each. A component's sign is such that its largest
    loading is positive; each is stretched from its 1st to its 99th percentile over all pixels.

    Args:
        maps: (D, h, w) each, of one D; h and w may differ.

    Returns:
        (h, w, 3) uint8 for each map. Where D < 3 or the pixels do not differ, the channels left over are middle grey.
    """
    import torch

    pixels = torch.cat([each.detach().cpu().double().flatten(1).T for each in maps])  # (P, D)
    mean = pixels.mean(0)
    centred = pixels - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    basis = vectors.flip(1)[:, :3]  # (D, 3), the largest first
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    basis = basis * torch.where(largest < 0, -1.0, 1.0)
    values = (centred @ basis).numpy()
    low, high = np.percentile(values, [1, 99], axis=0)
    width = high - low
    stretched = np.where(width > 1e-9, (values - low) / np.maximum(width, 1e-9), 0.5).clip(0, 1)
    colors = np.full((len(values), 3), 128, np.uint8)
    colors[:, : values.shape[1]] = np.round(255 * stretched)
    ends = np.cumsum([each[0].numel() for each in maps])[:-1]
    return [part.reshape(*each.shape[1:], 3) for part, each in zip(np.split(colors, ends), maps, strict=True)]


def tsne(vectors: NDArray[np.floating], seed: int = 0) -> NDArray[np.float64]:
    """t-SNE by cosine distance (van der Maaten & Hinton, JMLR 2008): near vectors lie near each other.

    Args:
        vectors: (N, D), N > 3.
        seed: the same seed gives the same view.

    Returns:
        (N, 2) places, each axis from 0 to 1.
    """
    from sklearn.manifold import TSNE

    if vectors.ndim != 2 or len(vectors) < 4:
        raise ValueError(f"expected vectors (N, D) with N > 3, got {vectors.shape}")
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    view = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=seed, n_jobs=1)
    places = view.fit_transform(np.ascontiguousarray(vectors, np.float32)).astype(np.float64)
    low, high = places.min(0), places.max(0)
    return (places - low) / np.maximum(high - low, 1e-12)


# ------------------------------------------------------------------------------------------ labels over a picture


def outlined(image: RGB, labels: NDArray[np.integer]) -> RGB:
    """(H, W, 3) the picture with white lines between labels, in a dark border so that they show on white too."""
    edges = boundaries(labels)
    dark = ndimage.binary_dilation(edges, np.ones((3, 3)))
    shaded = np.where(dark[..., None], image * 0.55, image).astype(np.uint8)
    return blend(shaded, shaded, 0, edges)


def mean_colors(image: RGB, labels: NDArray[np.integer]) -> RGB:
    """(H, W, 3) each label in the mean colour of its pixels, with white lines between."""
    flat, pixels = labels.ravel(), image.reshape(-1, 3)
    sums = np.stack([np.bincount(flat, pixels[:, channel]) for channel in range(3)], 1)
    means = (sums / np.maximum(np.bincount(flat), 1)[:, None])[labels].astype(np.uint8)
    return blend(means, means, 0, boundaries(labels))


def painted(image: RGB, labels: NDArray[np.integer], colors: NDArray[np.uint8], numbered_from: int) -> RGB:
    """(H, W, 3) the picture, in grey, under the colours of its labels; those from ``numbered_from`` bear u1, u2, ..."""
    from clips4.outputs.render import legend_font

    gray = np.array(Image.fromarray(image).convert("L").convert("RGB"))
    canvas = Image.fromarray(blend(gray, color_labels(labels, colors), 0.62, boundaries(labels)))
    draw, font = ImageDraw.Draw(canvas), legend_font(max(10, max(labels.shape) // 24))
    for label in np.unique(labels[labels >= numbered_from]):
        mask = np.pad(labels == label, 1)
        depth = ndimage.distance_transform_edt(mask)[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        if depth[y, x] > font.size * 0.7:
            name = f"u{label - numbered_from + 1}"
            draw.text((x, y), name, "white", font, "mm", stroke_width=2, stroke_fill="black")
    return np.array(canvas)


def best_crop(image: RGB, own: NDArray[np.bool_]) -> RGB:
    """A square (side, side, 3) of the picture where the (H, W) mask is densest; what lies outside the mask is pale."""
    side = max(8, round(0.45 * min(own.shape)))
    density = ndimage.uniform_filter(own.astype(np.float32), side, mode="constant")
    y, x = np.unravel_index(density.argmax(), density.shape)
    top, left = (min(max(0, at - side // 2), length - side) for at, length in zip((y, x), own.shape, strict=True))
    window = np.s_[top : top + side, left : left + side]
    pale = blend(image[window], np.full((side, side, 3), 255, np.uint8), 0.75)
    return np.where(own[window][..., None], image[window], pale)


# ------------------------------------------------------------------------------------------------ a line over steps


def smooth(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """(N,) centred running mean over about ``window`` values; at the ends over those that there are."""
    half = window // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    start, stop = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[stop] - sums[start]) / (stop - start)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, within [low, high]: about ``count``, three at least."""
    rough = max(high - low, 1e-9) / count
    power = 10.0 ** floor(log10(rough))
    found: list[float] = []
    for step in (factor * power for factor in (10, 5, 2, 1, 0.5)):
        if len(found) < 3 or step >= rough * 0.999:
            first, last = ceil(low / step - 1e-6), floor(high / step + 1e-6)
            found = [index * step for index in range(first, last + 1)]
    return found


def loss_chart(title: str, steps: Sequence[float], values: Sequence[float]) -> str:
    """A curve as inline SVG: faint as logged, strong as running mean.

    Args:
        title: says what it is, for those who do not see it.
        steps: (N,) rising.
        values: (N,) finite.
    """
    if len(steps) != len(values) or not len(values):
        raise ValueError(f"expected as many steps as values, one at least; got {len(steps)} and {len(values)}")
    left, top, right, bottom, width, height = 34, 8, 250, 150, 260, 186
    pad = 0.06 * (max(values) - min(values)) or 0.1 * max(abs(max(values)), 1.0)
    low, high = min(values) - pad, max(values) + pad
    first, last = steps[0], max(steps[-1], steps[0] + 1)

    def x(step: float) -> float:
        return left + (step - first) / (last - first) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    def line(name: str, series: Sequence[float]) -> str:
        kept = range(0, len(series), -(-len(series) // _MAX_POINTS))
        points = " ".join(f"{x(steps[i]):.1f},{y(series[i]):.1f}" for i in kept)
        return f'<polyline class="{name}" points="{points}"/>'

    rows = "".join(
        f'<line class="grid" x1="{left}" x2="{right}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.4g}</text>'
        for v in ticks(low, high)
    )
    columns = "".join(
        f'<text x="{x(v):.1f}" y="{bottom + 16}" text-anchor="middle">{v:.6g}</text>' for v in ticks(first, last)
    )
    mean = smooth(values, max(3, len(values) // 10)).tolist()
    said = f"{title}: {mean[0]:.3g} at step {first:g}, {mean[-1]:.3g} at step {last:g}"
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(said)}">{rows}{columns}'
        f'<text x="{(left + right) / 2}" y="{height - 4}" text-anchor="middle">step</text>'
        f"{line('raw', values)}{line('mean', mean)}</svg>"
    )


# ----------------------------------------------------------------------------------------------- points on a plane

Kind = Literal["student", "teacher", "unknown", "known", "text"]  # drawn in this order, the last on top


class Mark(NamedTuple):
    """One vector in the view; ``x`` and ``y`` from 0 to 1, ``colour`` as CSS writes it, ``label`` may be empty."""

    kind: Kind
    x: float
    y: float
    color: str
    label: str = ""


def mark_shape(kind: Kind, x: float, y: float, color: str) -> str:
    """The sign of a kind as SVG: dot, ring, square, diamond, star."""
    place = f'cx="{x:.1f}" cy="{y:.1f}"'
    if kind == "student":
        return f'<circle class="student" {place} r="2.6" fill="{color}"/>'
    if kind == "teacher":
        return f'<circle class="teacher" {place} r="3.6" stroke="{color}"/>'
    if kind == "unknown":
        return f'<rect class="sign" x="{x - 5.5:.1f}" y="{y - 5.5:.1f}" width="11" height="11" fill="{color}"/>'
    spikes, outer, inner = (5, 12.0, 5.0) if kind == "text" else (2, 9.0, 6.4)
    radii = [outer, inner] * spikes
    angles = [index * pi / spikes for index in range(2 * spikes)]
    points = " ".join(f"{x + r * sin(a):.1f},{y - r * cos(a):.1f}" for r, a in zip(radii, angles, strict=True))
    return f'<polygon class="sign" points="{points}" fill="{color}"/>'


def scatter_chart(title: str, marks: Sequence[Mark], side: int = 640, font: int = 24) -> str:
    """Marks on a plane as inline SVG, with labels that keep clear of each other; a line leads to one that stands off.

    Args:
        title: says what it is, for those who do not see it.
        marks: see ``Mark``; labels of kind "text" always stand, others only where there is room.
        side: of the square, in SVG units.
        font: largest size that the page will give the labels, in SVG units.
    """
    margin = 34
    inner, order = side - 2 * margin, get_args(Kind)
    placed = [
        mark._replace(x=margin + mark.x * inner, y=margin + (1 - mark.y) * inner)
        for mark in sorted(marks, key=lambda mark: order.index(mark.kind))
    ]
    taken = [(m.x - 9, m.y - 9, m.x + 9, m.y + 9) for m in placed if m.kind not in ("student", "teacher")]
    lines = texts = ""
    for mark in (mark for mark in reversed(placed) if mark.label):
        box = min(_label_boxes(mark, font), key=lambda box: _covered(box, taken, side))
        if _covered(box, taken, side) and mark.kind != "text":
            continue
        taken.append(box)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        gap = hypot(max(box[0] - mark.x, mark.x - box[2], 0), max(box[1] - mark.y, mark.y - box[3], 0))
        if gap > 0.6 * font:
            lines += f'<line class="leader" x1="{mark.x:.1f}" y1="{mark.y:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>'
        texts += (
            f'<text class="{mark.kind}" x="{x:.1f}" y="{y + 0.33 * font:.1f}" text-anchor="middle">'
            f"{escape(mark.label)}</text>"
        )
    shapes = "".join(mark_shape(mark.kind, mark.x, mark.y, mark.color) for mark in placed)
    return (
        f'<svg class="map" viewBox="0 0 {side} {side}" role="img" aria-label="{escape(title)}">'
        f"{lines}{shapes}{texts}</svg>"
    )


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _label_boxes(mark: Mark, font: int) -> list[Box]:
    """Where the label of a mark may stand, the best first."""
    width, height = 0.6 * font * len(mark.label), 1.15 * font
    ways = ((0, -1), (0, 1), (1, 0), (-1, 0), (0.8, -0.8), (-0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))
    places = [
        (mark.x + dx * (away + width / 2), mark.y + dy * (away + height / 2))
        for away in (12, 26, 44)
        for dx, dy in ways
    ]
    return [(x - width / 2, y - height / 2, x + width / 2, y + height / 2) for x, y in places]


def _covered(box: Box, taken: Sequence[Box], side: int) -> float:
    """Area of a box that others cover or that lies outside the square; 0 where it is free."""

    def shared(other: Box) -> float:
        width = min(box[2], other[2]) - max(box[0], other[0])
        height = min(box[3], other[3]) - max(box[1], other[1])
        return max(0.0, width) * max(0.0, height)

    outside = (box[2] - box[0]) * (box[3] - box[1]) - shared((0, 0, side, side))
    return round(sum(map(shared, taken)) + outside, 6)
