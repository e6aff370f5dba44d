"""PCA colors and t-SNE of embeddings; charts as inline SVG that take their colors from the page (matplotlib)."""

import io
import re
import warnings
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from clips4.utils.images import RGB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_POINTS = 500  # of a drawn line; more cannot be seen
# colors that stand for those of the page until the SVG is written
_INK, _ACCENT, _CARD = "#010101", "#010102", "#010103"
_PAGE_COLORS = {_INK: "currentColor", _ACCENT: "var(--accent)", _CARD: "var(--card)"}


def pca_colors(maps: Sequence[NDArray[np.floating]]) -> list[RGB]:
    """Pixel embeddings as colors: their first three principal components over all maps are red, green and blue.

    One basis serves all maps, so that a color means the same in each. The sign of a component is such that its largest
    loading is positive; each is stretched from its 1st to its 99th percentile over all pixels.

    Args:
        maps: (D, h, w) each, of one D; h and w may differ.

    Returns:
        (h, w, 3) uint8 for each map. If D < 3 or the pixels do not differ, the remaining channels are middle gray.
    """
    pixels = np.concatenate([each.reshape(len(each), -1).T for each in maps]).astype(np.float64)  # (P, D)
    centered = pixels - pixels.mean(0)
    basis = np.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, :3]  # (D, 3), the largest first
    largest = np.take_along_axis(basis, np.abs(basis).argmax(0, keepdims=True), 0)
    values = centered @ (basis * np.where(largest < 0, -1.0, 1.0))
    low, high = np.percentile(values, [1, 99], axis=0)
    width = high - low
    stretched = np.where(width > 1e-9, (values - low) / np.maximum(width, 1e-9), 0.5).clip(0, 1)
    colors = np.full((len(values), 3), 128, np.uint8)
    colors[:, : values.shape[1]] = np.round(255 * stretched)
    ends = np.cumsum([each[0].size for each in maps])[:-1]
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


def smooth(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """(N,) centered running mean over about ``window`` values; at the ends over those that there are."""
    half = window // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    start, stop = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[stop] - sums[start]) / (stop - start)


def loss_chart(title: str, steps: Sequence[float], values: Sequence[float]) -> str:
    """A curve as inline SVG: faint as logged, strong as running mean.

    Args:
        title: what the curve shows, for screen readers.
        steps: (N,) rising.
        values: (N,) finite.

    Raises:
        ValueError: no value, or not one for each step.
    """
    from matplotlib.figure import Figure

    if len(steps) != len(values) or not len(values):
        raise ValueError(f"expected as many steps as values, one at least; got {len(steps)} and {len(values)}")
    mean = smooth(values, max(3, len(values) // 10))
    every = -(-len(values) // _MAX_POINTS)
    figure = Figure(figsize=(3.6, 2.5), layout="constrained")
    axes = figure.add_subplot()
    for series, width, opacity in ((values, 1.0, 0.35), (mean, 2.4, 1.0)):
        axes.plot(steps[::every], series[::every], color=_ACCENT, linewidth=width, alpha=opacity, clip_on=False)
    axes.set_xlabel("step", color=_INK)
    axes.grid(axis="y", color=_INK, alpha=0.18, linewidth=0.8, clip_on=False)
    axes.tick_params(length=0, labelcolor=_INK, labelsize=10)
    axes.locator_params(nbins=4)
    axes.spines[:].set_visible(False)
    label = f"{title}: {mean[0]:.3g} at step {steps[0]:g}, {mean[-1]:.3g} at step {steps[-1]:g}"
    return _svg(figure, "chart", label)


# ----------------------------------------------------------------------------------------------- points on a plane

Kind = Literal["student", "teacher", "unknown", "known", "text"]  # in drawing order, the last on top
MARKERS: dict[Kind, str] = {"student": "o", "teacher": "o", "unknown": "s", "known": "D", "text": "*"}
_AREAS: dict[Kind, int] = {"student": 14, "teacher": 22, "unknown": 60, "known": 60, "text": 200}  # square points
_SIDE, _MARGIN, _LABEL = 460.8, 26.0, 16.0  # points: of the plane, its margin, and the largest labels a page shows


class Mark(NamedTuple):
    """One vector in the view; ``x`` and ``y`` in [0, 1], ``color`` as CSS writes it, ``label`` may be empty."""

    kind: Kind
    x: float
    y: float
    color: str
    label: str = ""


def scatter_chart(title: str, marks: Sequence[Mark]) -> str:
    """Marks on a plane as inline SVG; labels that would cover others are left out, except those of kind "text".

    Args:
        title: what the plane shows, for screen readers.
        marks: see ``Mark``.
    """
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path
    from matplotlib.transforms import Bbox

    figure = Figure(figsize=(_SIDE / 72, _SIDE / 72))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, _SIDE), ylim=(0, _SIDE))
    axes.axis("off")
    taken: list[Bbox] = []
    labels: list[tuple[Mark, float, float]] = []
    for order, kind in enumerate(get_args(Kind)):
        own = [mark for mark in marks if mark.kind == kind]
        places = np.array([(mark.x, mark.y) for mark in own]).reshape(-1, 2) * (_SIDE - 2 * _MARGIN) + _MARGIN
        colors = [mark.color for mark in own]
        axes.scatter(
            places[:, 0],
            places[:, 1],
            s=_AREAS[kind],
            marker=MARKERS[kind],
            facecolors="none" if kind == "teacher" else colors,
            edgecolors=colors if kind == "teacher" else "none" if kind == "student" else _INK,
            linewidths=1.1,
            alpha=0.8 if kind in ("student", "teacher") else 1,
            clip_on=False,
            zorder=2 + order,
        )
        labels += [(mark, x, y) for mark, (x, y) in zip(own, places.tolist(), strict=True) if mark.label]
        if kind not in ("student", "teacher"):
            taken += [Bbox.from_extents(x - 7, y - 7, x + 7, y + 7) for x, y in places]
    whole, font = axes.viewLim, FontProperties(size=_LABEL)
    for mark, x, y in reversed(labels):
        width = text_to_path.get_text_width_height_descent(mark.label, font, ismath=False)[0] + 4
        boxes = [
            Bbox.from_bounds(x + dx * (away + width / 2) - width / 2, y + dy * (away + 9) - 9, width, 18)
            for away in (8, 20, 36)
            for dx, dy in ((0, 1), (0, -1), (1, 0), (-1, 0), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8))
        ]
        inside = [box for box in boxes if whole.contains(*box.min) and whole.contains(*box.max)]
        box = next((box for box in inside if not box.count_overlaps(taken)), None)
        if box is None and mark.kind == "text":
            box = min(inside or boxes, key=lambda box: box.count_overlaps(taken))
        if box is not None:
            taken.append(box)
            center = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
            if np.hypot(center[1] - y, max(box.x0 - x, x - box.x1, 0)) > 26:
                axes.plot((x, center[0]), (y, center[1]), color=_INK, alpha=0.5, linewidth=0.8, clip_on=False, zorder=1)
            axes.text(*center, mark.label, size=_LABEL, ha="center", va="center_baseline", color=_INK, parse_math=False)
    return _svg(figure, "map", title)


def _svg(figure: "Figure", kind: str, label: str) -> str:
    """A figure as an SVG element for a page: no size, font, color scheme, script or address of its own."""
    import matplotlib

    buffer = io.StringIO()
    # ids are hashes of the salt: the same for the same chart, others for another chart on the page
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"{kind} {label}"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the browser draws the text, and has more fonts
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    text = buffer.getvalue()
    frame = re.search(r"<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>", text)
    assert frame is not None
    text = text[frame.end() :]
    text = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>|<g id=\"[^\"]*\"", lambda found: "<g" if found[0].startswith("<g") else "", text)
    text = re.sub(r'(?<=<text style=")(?:font[\w-]*: [^;"]*;? ?)+', "", text)
    text = re.sub(r' transform="rotate\(-?0 [^"]*"', "", text).replace("xlink:href", "href")
    for stand_in, color in _PAGE_COLORS.items():
        text = text.replace(stand_in, color)
    text = re.sub(r">\s+<", "><", text).strip()
    return (
        f'<svg class="{kind}" viewBox="{frame[1]}" role="img" aria-label="{escape(label)}" stroke-linejoin="round">'
        + text
    )
