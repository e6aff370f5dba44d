"""The page of a run: its findings, written as one HTML file that needs no other.

The words, their order and the style are in ``assets/report``.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import clips4.outputs.charts as figures
import clips4.outputs.render as outputs
from clips4.config import Config
from clips4.data.class_names import ASSETS
from clips4.evaluation.report.collect import SMALL, Findings, Labels, Photograph, gather
from clips4.outputs.charts import Kind, Mark
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import RGB, UNKNOWN_COLOR, reduce_to
from clips4.utils.progress import ProgressReporter

_LONG_SIDE = 512  # of the pictures on the page
_VIEW_PIXELS = 60  # per photograph and per network in the two-dimensional view
_LOSSES = {
    "loss": "Objective",
    "contrast": "Pixel–segment contrast, L<sub>t</sub>",
    "embedding": "Embedding consistency, L<sub>e</sub>",
    "semantic": "Semantic consistency, L<sub>s</sub>",
}
_SIGNS: dict[Kind, str] = {
    "text": "text vector of a class",
    "known": "prototype of a known class",
    "unknown": "prototype of an unknown class",
    "teacher": "teacher’s pixel",
    "student": "student’s pixel",
}


def write_report(page: Path, run: Path, photographs: Sequence[Path], device: str, progress: ProgressReporter) -> None:
    """Write one HTML page that shows what a run learned; it loads nothing from elsewhere.

    Args:
        page: the file to write; it appears whole or not at all.
        run: folder that training wrote.
        photographs: to show; unreadable ones are named on the page.
        device: "auto", "cpu", "cuda" or "mps".
        progress: is told of each photograph.

    Raises:
        UserError: no checkpoint in ``run``, or no readable photograph.
    """
    write_atomically(page, render(gather(run, photographs, device, progress)).encode())


def view_marks(findings: Findings) -> list[Mark]:
    """The two-dimensional view: text vectors, prototypes, and pixels of teacher and student drawn at random."""
    prototypes, seed = findings.checkpoint.prototypes, findings.checkpoint.config.train.seed
    random = np.random.default_rng(seed)

    def pixels(maps: Sequence[Tensor]) -> Tensor:
        rows = [each.float().flatten(1).T for each in maps]
        return torch.cat([each[torch.from_numpy(random.permutation(len(each))[:_VIEW_PIXELS])] for each in rows])

    by_teacher = pixels([each.pixel_map for each in findings.photographs])
    by_student = pixels([each.z for each in findings.photographs])
    known, found = list(range(findings.known)), findings.found
    groups: list[tuple[Kind, Tensor, list[int]]] = [
        ("text", prototypes.text, known),
        ("known", prototypes.known, known),
        ("unknown", prototypes.all()[found], found),
        ("teacher", by_teacher, (by_teacher @ prototypes.text.T).argmax(1).tolist()),
        ("student", by_student, (by_student @ prototypes.asked().T).argmax(1).tolist()),
    ]
    signs = [(kind, index) for kind, _, labels in groups for index in labels]
    places = figures.tsne(torch.cat([vectors for _, vectors, _ in groups]).numpy(), seed).tolist()
    return [
        Mark(kind, x, y, css(findings.colors[i]), findings.names[i] if kind in ("text", "unknown") else "")
        for (kind, i), (x, y) in zip(signs, places, strict=True)
    ]


def css(color: Sequence[int] | NDArray[np.uint8]) -> str:
    """(red, green, blue) -> "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*(int(value) for value in color))


def swatch(color: Sequence[int] | NDArray[np.uint8]) -> str:
    """A small square of a colour."""
    return f'<span class="swatch" style="background:{css(color)}"></span>'


def percent(share: float) -> str:
    """A share for people, as HTML."""
    return escape(outputs.percent(share))


def img(image: RGB, alt: str, long_side: int = _LONG_SIDE) -> str:
    """An <img> that carries its picture, as JPEG."""
    image = reduce_to(image, long_side)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=84, subsampling=0, optimize=True)
    data, (height, width) = base64.b64encode(buffer.getvalue()).decode(), image.shape[:2]
    return f'<img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" alt="{escape(alt)}">'


def photograph_section(findings: Findings, photograph: Photograph, number: int, z_colors: RGB) -> str:
    """The six pictures of one photograph; ``z_colors`` (h, w, 3) are enlarged to its size."""
    image, regions, segments = photograph.image, photograph.regions, photograph.segments
    height, width = image.shape[:2]
    embedding = np.array(Image.fromarray(z_colors).resize((width, height), Image.Resampling.BILINEAR))
    painted = [
        figures.painted(image, x, findings.colors, findings.known) for x in (photograph.teacher, photograph.student)
    ]
    images = (
        ("Photograph", image, f"<span>{width} × {height}</span>"),
        ("Regions", figures.outlined(image, regions), f"<span>{regions.max() + 1}</span>"),
        ("Embedding", embedding, ""),
        ("Segments", figures.mean_colors(image, segments), f"<span>{segments.max() + 1}</span>"),
        ("Teacher", painted[0], legend(findings, photograph.teacher, unknown=False)),
        ("Student", painted[1], legend(findings, photograph.student)),
    )
    shown = "".join(
        f"<figure>{img(picture, f'{name}: {photograph.title}')}<figcaption><b>{name}</b>{below}</figcaption></figure>"
        for name, picture, below in images
    )
    title = escape(photograph.title)
    return f'<section class="photo" id="photo-{number}"><h3>{title}</h3><div class="six">{shown}</div></section>'


def legend(findings: Findings, labels: Labels, unknown: bool = True) -> str:
    """Names and areas of an answer, largest first, then the unknown, in all and by prototype."""
    shares, known = findings.mean_shares([labels]), findings.known
    order = [index for index in np.argsort(-shares, kind="stable").tolist() if shares[index]]
    items = [
        f"<li>{swatch(findings.colors[i])}{escape(findings.names[i])} {percent(shares[i])}</li>"
        for i in order
        if i < known
    ]
    parts = ", ".join(f"{findings.names[i]} {percent(shares[i])}" for i in order if i >= known and shares[i] >= 0.01)
    if unknown:
        detail = f" <small>({parts})</small>" if parts else ""
        items.append(f"<li>{swatch(UNKNOWN_COLOR)}unknown {percent(shares[known:].sum())}{detail}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def unknown_section(findings: Findings) -> str:
    """A card for each unknown prototype that was found: its share, where, and a crop."""
    cards = ""
    for index in findings.found:
        areas = np.array([(each.student == index).mean() for each in findings.photographs])
        order = np.argsort(-areas, kind="stable").tolist()
        where = ", ".join(findings.photographs[i].title for i in order[:3] if areas[i] >= 0.01 or i == order[0])
        best, name = findings.photographs[order[0]], findings.names[index]
        crop = img(
            figures.best_crop(best.image, best.student == index), f"Where {name} is nearest in {best.title}", 200
        )
        cards += (
            f"<figure>{crop}<figcaption><b>{swatch(findings.colors[index])}{name}</b>"
            f"<span>{percent(findings.shares[index])}</span><small>{escape(where)}</small></figcaption></figure>"
        )
    rest = [name for i, name in enumerate(findings.names) if i >= findings.known and i not in findings.found]
    left = f"<p>Found on less than {percent(SMALL)} of all pixels: {', '.join(rest)}.</p>" if rest else ""
    return f'<div class="crops">{cards}</div>{left}'


def loss_section(log: Sequence[dict[str, float]]) -> str:
    """A chart for each loss that is not switched off."""
    charts = ""
    for name, title in _LOSSES.items():
        lines = [line for line in log if name in line]
        if any(line[name] for line in lines):
            chart = figures.loss_chart(name, [line["step"] for line in lines], [line[name] for line in lines])
            charts += f"<figure><figcaption>{title}</figcaption>{chart}</figure>"
    return charts or "<p>The run has no log.</p>"


def plane_section(findings: Findings) -> str:
    """The two-dimensional view with its legends of signs and colours."""
    key = '<svg class="map key" viewBox="0 0 26 26" aria-hidden="true">'
    kinds = [
        f"<li>{key}{figures.mark_shape(kind, 13, 13, 'currentColor')}</svg>{_SIGNS[kind]}</li>"
        for kind in reversed(get_args(Kind))
    ]
    classes = zip(findings.colors, findings.checkpoint.prototypes.names, strict=False)
    colors = [f"<li>{swatch(color)}{escape(name)}</li>" for color, name in classes]
    chart = figures.scatter_chart("t-SNE view of text vectors, prototypes and pixels", view_marks(findings))
    return (
        f'<figure class="plane">{chart}<figcaption><ul class="legend">{"".join(kinds)}</ul><ul class="legend">'
        f"{''.join(colors)}<li>{swatch(UNKNOWN_COLOR)}unknown</li></ul></figcaption></figure>"
    )


def class_rows(findings: Findings) -> str:
    """A table row for each class: colour, name, words, mean area by teacher and student; the unknown last."""
    by_teacher, by_student = findings.mean_shares([each.teacher for each in findings.photographs]), findings.shares
    classes = findings.checkpoint.prototypes.classes
    rows = [
        f'<tr><th scope="row">{swatch(findings.colors[i])}{escape(name)}</th><td>{escape(", ".join(words))}</td>'
        f"<td>{percent(by_teacher[i])}</td><td>{percent(by_student[i])}</td></tr>"
        for i, (name, words) in enumerate(zip(classes.names, classes.words, strict=True))
    ]
    unknown = percent(by_student[findings.known :].sum())
    return "".join(rows) + (
        f'<tr><th scope="row">{swatch(UNKNOWN_COLOR)}unknown</th><td>none</td><td>–</td><td>{unknown}</td></tr>'
    )


def settings_section(findings: Findings) -> str:
    """A table for the run, one for its versions, and one for each section of the configuration."""
    checkpoint, seconds = findings.checkpoint, sum(line.get("seconds", 0.0) for line in findings.log)
    run = {"steps": checkpoint.step, **({"training time": f"{seconds / 60:.1f} minutes"} if seconds else {})}
    run["student"] = f"{sum(p.numel() for p in checkpoint.student.parameters()) / 1e6:.1f} million parameters"
    tables = [table("run", {**run, "page drawn on": findings.device}), table("versions", checkpoint.card["versions"])]
    for name in Config.model_fields:
        section = getattr(checkpoint.config, name)
        notes = {key: field.description or "" for key, field in type(section).model_fields.items()}
        tables.append(table(name, {key: getattr(section, key) for key in notes}, notes))
    return "".join(tables)


def table(title: str, values: dict[str, object], notes: dict[str, str] | None = None) -> str:
    """A small table: key, value, and what it means."""

    def text(value: object) -> str:
        return escape(", ".join(map(str, value)) if isinstance(value, tuple) else str(value))

    rows = [
        f'<tr><th scope="row">{escape(key)}</th><td>{text(value)}'
        f"<small>{escape((notes or {}).get(key, ''))}</small></td></tr>"
        for key, value in values.items()
    ]
    return f"<section><h3>{escape(title)}</h3><table><tbody>{''.join(rows)}</tbody></table></section>"


def render(findings: Findings) -> str:
    """The page as HTML."""
    checkpoint, folder = findings.checkpoint, ASSETS.joinpath("report")
    maps = figures.pca_colors([each.z for each in findings.photographs])
    shown = enumerate(zip(findings.photographs, maps, strict=True), 1)
    teacher = checkpoint.config.teacher.name
    skipped = "".join(f"<li>{escape(each.reason)}</li>" for each in findings.skipped)
    return Template(folder.joinpath("page.html").read_text("utf-8")).substitute(
        style=folder.joinpath("page.css").read_text("utf-8"),
        notice=folder.joinpath("stand_in.html").read_text("utf-8") if teacher == "conse" else "",
        teacher=escape(teacher),
        steps=checkpoint.step,
        count=len(findings.photographs),
        known=findings.known,
        unknown=len(findings.names) - findings.known,
        found=len(findings.found),
        photographs="".join(photograph_section(findings, each, n, colors) for n, (each, colors) in shown),
        skipped=f"<p>Left out:</p><ul>{skipped}</ul>" if skipped else "",
        unknown_cards=unknown_section(findings),
        losses=loss_section(findings.log),
        plane=plane_section(findings),
        classes=class_rows(findings),
        settings=settings_section(findings),
    )
