"""The page of a run: what it learned, as one HTML file (``assets/pages/report.html.j2``)."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clips4.config import Config
from clips4.evaluation.report.collect import SMALL, Labels, ReportImage, RunReport, gather
from clips4.method.class_scores import assign
from clips4.outputs import charts
from clips4.outputs.drawing import best_crop, mean_colors, outlined, painted
from clips4.outputs.page import css_color, page_image, render_page
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import RGB, UNKNOWN_COLOR
from clips4.utils.progress import ProgressReporter

_LONG_SIDE, _CROP_SIDE = 512, 200  # pixels, of the images on the page
_VIEW_PIXELS = 60  # per image and per network in the two-dimensional view
_VIEW_PROTOTYPES = 4  # of each known class, where it has several
_PLANE = "t-SNE view of text vectors, prototypes and pixels"
_VERDICTS = {"good": "✓ good", "doubtful": "! doubtful", "not judged": "not judged"}
_LOSSES = {
    "loss": ("Objective", ""),
    "contrast": ("Pixel–segment contrast", "t"),
    "embedding": ("Embedding consistency", "e"),
    "semantic": ("Semantic consistency", "s"),
}
# the markers of charts.scatter_chart as characters
_SIGNS = (
    ("★", "text vector of a class"),
    ("◆", "prototype of a known class"),
    ("■", "prototype of an unknown class"),
    ("○", "teacher’s pixel"),
    ("●", "student’s pixel"),
)


PAGE = "report.html"


def write_report(
    page: Path,
    run: Path,
    images: Sequence[Path],
    device: str,
    progress: ProgressReporter,
    notes: Sequence[str] = (),
) -> None:
    """Write one HTML page that shows what a run learned; it loads nothing from elsewhere.

    Args:
        page: the file to write; it appears whole or not at all.
        run: folder that training wrote.
        images: to show; unreadable ones are named on the page.
        device: "auto", "cpu", "cuda" or "mps".
        progress: advances once an image.
        notes: lines on what the recipe chose and why.

    Raises:
        UserError: no checkpoint in ``run``, or no readable image.
    """
    write_atomically(page, render(gather(run, images, device, progress, notes)).encode())


def render(report: RunReport) -> str:
    """The page as HTML."""
    checkpoint = report.checkpoint
    maps = charts.pca_colors([each.z.numpy() for each in report.images])
    by_teacher = report.mean_shares([each.teacher for each in report.images])
    names = checkpoint.prototypes.classes
    return render_page(
        "report",
        teacher=checkpoint.config.teacher.name,
        steps=checkpoint.step,
        trained_on=report.quality.images if report.quality else len(report.images),
        quality=report.quality,
        verdicts=_VERDICTS,
        notes=report.notes,
        occurring=occurring(report),
        known=report.known,
        unknown=len(report.names) - report.known,
        images=[
            {"title": image.title, "panels": panels(report, image, colors)}
            for image, colors in zip(report.images, maps, strict=True)
        ],
        skipped=[each.reason for each in report.skipped],
        found=[found_prototype(report, index) for index in report.found],
        rare=[name for i, name in enumerate(report.names) if i >= report.known and i not in report.found],
        rare_below=SMALL,
        losses=losses(report.log),
        plane=charts.scatter_chart(_PLANE, view_marks(report)) if find_spec("sklearn") else "",
        signs=_SIGNS,
        classes=[
            {"color": css_color(color), "name": name, "queried": words, "teacher": share, "student": own}
            for color, name, words, share, own in zip(
                report.colors, names.names, names.aliases, by_teacher, report.shares, strict=False
            )
        ],
        unknown_color=css_color(UNKNOWN_COLOR),
        unknown_share=report.shares[report.known :].sum(),
        settings=settings(report),
    )


def occurring(report: RunReport) -> list[dict[str, object]]:
    """Names and colors of all that teacher or student predicts somewhere, in the order of the classes."""
    found = sorted({int(i) for each in report.images for i in (*np.unique(each.teacher), *np.unique(each.student))})
    return [{"name": report.names[i], "color": css_color(report.colors[i])} for i in found]


def panels(report: RunReport, image: ReportImage, z_colors: RGB) -> list[dict[str, object]]:
    """The six images of one image; ``z_colors`` (h, w, 3) are enlarged to its size."""
    height, width = image.image.shape[:2]
    embedding = np.array(Image.fromarray(z_colors).resize((width, height), Image.Resampling.BILINEAR))
    teacher, student = (
        painted(image.image, labels, report.colors, report.known) for labels in (image.teacher, image.student)
    )
    found: tuple[tuple[str, RGB, str, list[dict[str, object]]], ...] = (
        ("Image", image.image, f"{width} × {height}", []),
        ("Teacher", teacher, "", legend(report, image.teacher, unknown=False)),
        ("Student", student, "", legend(report, image.student, unknown=len(report.names) > report.known)),
        ("Regions", outlined(image.image, image.regions), str(image.regions.max() + 1), []),
        ("Embedding", embedding, "", []),
        ("Segments", mean_colors(image.image, image.segments), str(image.segments.max() + 1), []),
    )
    return [
        {"name": name, "image": page_image(shown, _LONG_SIDE), "note": note, "legend": entries}
        for name, shown, note, entries in found
    ]


def legend(report: RunReport, labels: Labels, unknown: bool = True) -> list[dict[str, object]]:
    """Names, colors and shares of a prediction, largest first; then the unknown, in all and by prototype.

    Args:
        report: the names and their colors.
        labels: (H, W) of the prediction.
        unknown: whether to list the unknown.
    """
    shares, known = report.mean_shares([labels]), report.known
    order = [index for index in np.argsort(-shares, kind="stable").tolist() if shares[index]]
    entries: list[dict[str, object]] = [
        {"name": report.names[i], "color": css_color(report.colors[i]), "share": shares[i], "parts": []}
        for i in order
        if i < known
    ]
    if unknown:
        parts = [(report.names[i], shares[i]) for i in order if i >= known and shares[i] >= 0.01]
        entries.append(
            {"name": "unknown", "color": css_color(UNKNOWN_COLOR), "share": shares[known:].sum(), "parts": parts}
        )
    return entries


def found_prototype(report: RunReport, index: int) -> dict[str, object]:
    """An unknown prototype that was found: its share, the images with most of it, and a crop of the first."""
    areas = np.array([(each.student == index).mean() for each in report.images])
    order = np.argsort(-areas, kind="stable").tolist()
    best = report.images[order[0]]
    return {
        "name": report.names[index],
        "color": css_color(report.colors[index]),
        "share": report.shares[index],
        "title": best.title,
        "where": [report.images[i].title for i in order[:3] if areas[i] >= 0.01 or i == order[0]],
        "crop": page_image(best_crop(best.image, best.student == index), _CROP_SIDE),
    }


def losses(log: Sequence[dict[str, float]]) -> list[tuple[str, str, str]]:
    """Title, symbol and chart (SVG) of each loss that is not switched off."""
    found = []
    for name, (title, symbol) in _LOSSES.items():
        lines = [line for line in log if name in line]
        if any(line[name] for line in lines):
            chart = charts.loss_chart(name, [line["step"] for line in lines], [line[name] for line in lines])
            found.append((title, symbol, chart))
    return found


def view_marks(report: RunReport) -> list[charts.Mark]:
    """The two-dimensional view: text vectors, prototypes, and pixels of teacher and student drawn at random."""
    prototypes, seed = report.checkpoint.prototypes, report.checkpoint.config.train.seed
    random = np.random.default_rng(seed)

    def pixels(maps: Sequence[Tensor]) -> Tensor:
        rows = [each.float().flatten(1).T for each in maps]
        return torch.cat([each[torch.from_numpy(random.permutation(len(each))[:_VIEW_PIXELS])] for each in rows])

    by_teacher = pixels([each.pixel_map for each in report.images])
    by_student = pixels([each.z for each in report.images])
    known, found = list(range(report.known)), report.found
    shown = min(prototypes.rows_per_class, _VIEW_PROTOTYPES)
    of_known = prototypes.known.unflatten(0, (report.known, -1))[:, :shown].flatten(0, 1)
    groups: list[tuple[charts.Kind, Tensor, list[int]]] = [
        ("text", prototypes.text, known),
        ("known", of_known, [index for index in known for _ in range(shown)]),
        ("unknown", prototypes.unknown[[index - report.known for index in found]], found),
        ("teacher", by_teacher, (by_teacher @ prototypes.text.T).argmax(1).tolist()),
        ("student", by_student, assign(by_student, prototypes.queries(), prototypes.groups).tolist()),
    ]
    kinds = [(kind, index) for kind, _, labels in groups for index in labels]
    places = charts.tsne(torch.cat([vectors for _, vectors, _ in groups]).numpy(), seed).tolist()
    return [
        charts.Mark(kind, x, y, css_color(report.colors[i]), report.names[i] if kind in ("text", "unknown") else "")
        for (kind, i), (x, y) in zip(kinds, places, strict=True)
    ]


def settings(report: RunReport) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Tables of (key, value, what it means): the run, its versions, each section of the configuration."""
    checkpoint, seconds = report.checkpoint, sum(line.get("seconds", 0.0) for line in report.log)
    million = sum(parameter.numel() for parameter in checkpoint.student.parameters()) / 1e6
    run = [
        ("steps", str(checkpoint.step), ""),
        *([("training time", f"{seconds / 60:.1f} minutes", "")] if seconds else []),
        ("student", f"{million:.1f} million parameters", ""),
        ("page drawn on", report.device, ""),
    ]
    versions = [(key, str(value), "") for key, value in checkpoint.card["versions"].items()]
    sections = []
    for name in Config.model_fields:
        section = getattr(checkpoint.config, name)
        values = {key: getattr(section, key) for key in type(section).model_fields}
        texts = {
            key: ", ".join(map(str, value)) if isinstance(value, tuple) else str(value) for key, value in values.items()
        }
        notes = {key: field.description or "" for key, field in type(section).model_fields.items()}
        sections.append((name, [(key, text, notes[key]) for key, text in texts.items()]))
    return [("run", run), ("versions", versions), *sections]
