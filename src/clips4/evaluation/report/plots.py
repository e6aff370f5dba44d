"""Plots of an evaluation: the confusion matrix, the worst images as overlays, the embedding by t-SNE."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from clips4.data.label_maps import ignore_value
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.evaluation.metrics.confusion import ImageScore
from clips4.outputs.class_colors import class_colors
from clips4.outputs.render import draw_legend, legend_font
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import RGB, UNKNOWN_COLOR, blend, boundaries, color_labels, encode_png, load_rgb
from clips4.utils.output_folder.names import check_out_folder
from clips4.utils.output_folder.output import Output

_LEGEND = 14  # classes named below an overlay at most
_HEAD = 26


def plot_confusion(confusion: NDArray[np.int64], names: Sequence[str], title: str) -> bytes:
    """PNG: rows are true classes, columns predicted ones, each row a share of its class's pixels.

    Classes that occur neither in truth nor in prediction are left out. If some pixels
    are predicted as no class, a last column shows them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes = len(confusion)
    used = (confusion.sum(1) > 0) | (confusion[:, :classes].sum(0) > 0)
    columns: list[int] = [*np.flatnonzero(used).tolist(), *([classes] if confusion[:, classes].any() else [])]
    part = confusion[used][:, columns].astype(np.float64)
    shares = part / np.maximum(confusion[used].sum(1, keepdims=True), 1)
    size = float(np.clip(0.24 * len(shares) + 2.6, 5, 26))
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    labels = [names[index] if index < classes else "(none)" for index in columns]
    font = 8 if len(shares) > 30 else 10
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=font)
    axes.set_yticks(range(len(shares)), [names[i] for i in np.flatnonzero(used).tolist()], fontsize=font)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    if len(shares) <= 20:
        for row, column in np.ndindex(*shares.shape):
            if shares[row, column] >= 0.005:
                ink = "white" if shares[row, column] > 0.5 else "black"
                text = f"{100 * shares[row, column]:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
    return _png(figure)


def plot_worst_images(
    dataset: LabeledFolder,
    images: Sequence[ImageScore],
    predict: Callable[[RGB, tuple[int, ...]], NDArray[np.integer]],
    count: int = 10,
) -> dict[str, bytes]:
    """PNGs, by name, of the images with the lowest mIoU over their own classes: image, truth, prediction, legend.

    Args:
        images: score of each image of the set.
        predict: (H, W, 3), (H, W) of the truth -> (H, W) labels; called for these images alone.
    """
    own = [image.miou if image.pixels else np.inf for image in images]
    order = [int(index) for index in np.argsort(own, kind="stable")[:count] if np.isfinite(own[index])]
    sheets = {}
    for rank, index in enumerate(order, 1):
        image, truth = load_rgb(dataset.images[index]), dataset.truth(index)
        prediction = predict(image, truth.shape)
        head = f"{dataset.images[index].stem}: mIoU {100 * own[index]:.1f} % over its own classes"
        sheet = side_by_side(image, truth, prediction, dataset.classes.names, head)
        sheets[f"worst{rank:02d}_{dataset.images[index].stem}.png"] = encode_png(sheet)
    return sheets


def side_by_side(
    image: RGB, truth: NDArray[np.integer], prediction: NDArray[np.integer], names: Sequence[str], head: str
) -> RGB:
    """Image, truth and prediction in a row, a title above and a legend below; ignored pixels are gray in both maps."""
    colors = class_colors(names)
    true, shown = (
        np.where(truth == ignore_value(len(names)), -1, np.clip(labels.astype(np.int64), -1, len(names)))
        for labels in (truth, prediction)
    )
    true[true >= len(names)] = shown[shown >= len(names)] = -1
    panels = [image]
    for labels in (true, shown):
        panels.append(blend(image, color_labels(labels, colors), 0.65, boundaries(labels)))
    row = np.concatenate(panels, 1)
    found, counts = np.unique(np.concatenate([true[true >= 0], shown[shown >= 0]]), return_counts=True)
    listed = found[np.argsort(-counts)][:_LEGEND]
    entries = [(names[label], (int(c[0]), int(c[1]), int(c[2]))) for label in listed for c in (colors[label],)]
    if (true < 0).any():
        entries.append(("not scored", UNKNOWN_COLOR))
    legend = draw_legend(entries, row.shape[1], beside=False, size=16)
    width = max(row.shape[1], legend.shape[1])
    canvas = Image.new("RGB", (width, _HEAD + row.shape[0] + legend.shape[0]), "white")
    ImageDraw.Draw(canvas).text((6, _HEAD / 2), f"{head}  (image, truth, prediction)", "black", legend_font(14), "lm")
    canvas.paste(Image.fromarray(row), (0, _HEAD))
    canvas.paste(Image.fromarray(legend), (0, _HEAD + row.shape[0]))
    return np.array(canvas)


def plot_embedding(
    text: Tensor, teacher: Tensor, student: Tensor, labels: NDArray[np.integer], names: Sequence[str]
) -> bytes:
    """PNG of the paper's figure: text vectors, teacher and student pixels of each class in one plane by t-SNE.

    Args:
        text: (K, D) text vectors of the classes shown.
        teacher, student: (N, D) pixels of both at the same places.
        labels: (N,) class of each, 0..K-1.
        names: (K,).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from clips4.outputs.charts import tsne

    places = tsne(np.concatenate([part.cpu().float().numpy() for part in (text, teacher, student)]))
    classes, count = len(names), len(labels)
    colors = class_colors(names) / 255
    figure = Figure(figsize=(9, 7.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for start, marker, size, name in ((classes, "o", 14, "teacher pixel"), (classes + count, "^", 16, "student pixel")):
        part = places[start : start + count]
        hollow = marker == "o"
        axes.scatter(
            part[:, 0],
            part[:, 1],
            s=size,
            marker=marker,
            facecolors="none" if hollow else colors[labels],
            edgecolors=colors[labels],
            linewidths=0.8 if hollow else 0,
            label=name,
        )
    axes.scatter(
        places[:classes, 0], places[:classes, 1], s=170, marker="*", c=colors, edgecolors="black", label="text"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    shapes = [
        Line2D([], [], linestyle="", marker=marker, markersize=size, color="black", fillstyle=fill, label=label)
        for marker, size, fill, label in (
            ("o", 6, "none", "teacher pixel"),
            ("^", 6, "full", "student pixel"),
            ("*", 12, "full", "text"),
        )
    ]
    swatches = [
        Line2D([], [], linestyle="", marker="s", markersize=9, color=colors[index], label=name)
        for index, name in enumerate(names)
    ]
    axes.legend(handles=[*shapes, *swatches], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.set_title("t-SNE by cosine of text, teacher pixels and student pixels")
    return _png(figure)


def _png(figure: object) -> bytes:
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)  # type: ignore[attr-defined]
    return buffer.getvalue()


def write_plots(folder: Path, plots: Mapping[str, bytes]) -> None:
    """Write PNGs by name, instead of those of an earlier report; the folder's manifest lists them.

    Raises:
        UserError: the folder has outputs of another command, or a file of that name that clips4 did not write.
    """
    check_out_folder(folder)
    Output(folder, "evaluate", [], "").begin_whole(list(plots))
    for name, content in plots.items():
        write_atomically(folder / name, content)
