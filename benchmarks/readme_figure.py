"""README's figure, drawn from a finished demo run: photograph, teacher, student, embedding.

python benchmarks/readme_figure.py --run runs/demo --out docs/images/figure.webp
"""

import argparse
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clips4.cli.demo import sample_photographs
from clips4.evaluation.report.collect import gather
from clips4.outputs.charts import pca_colors
from clips4.outputs.drawing import painted
from clips4.outputs.render import draw_legend, legend_font
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import RGB, UNKNOWN_COLOR
from clips4.utils.progress import NoProgress

SHOWN = ("chelsea", "coffee", "motorcycle left", "china")
COLUMNS = ("photograph", "teacher", "student", "embedding")
WIDTH, HEIGHT, GAP, HEAD = 300, 200, 8, 30


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--out", type=Path, default=Path("docs/images/figure.webp"))
    arguments = parser.parse_args()

    report = gather(arguments.run, sample_photographs(), "auto", NoProgress())
    embeddings = pca_colors([image.z.numpy() for image in report.images])
    canvas = Image.new("RGB", (4 * WIDTH + 5 * GAP, HEAD + len(SHOWN) * (HEIGHT + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(COLUMNS):
        center = GAP + column * (WIDTH + GAP) + WIDTH / 2
        draw.text((center, HEAD / 2), title, fill="black", font=legend_font(18), anchor="mm")
    rows = [(p, e) for p, e in zip(report.images, embeddings, strict=True) if p.title in SHOWN]
    seen: set[int] = set()
    for row, (photograph, embedding) in enumerate(rows):
        predictions = [np.where(a < report.known, a, report.known) for a in (photograph.teacher, photograph.student)]
        seen |= {int(label) for labels in predictions for label in np.unique(labels)}
        colors = np.concatenate([report.colors[: report.known], [UNKNOWN_COLOR]]).astype(np.uint8)
        shown = [painted(photograph.image, labels, colors, len(colors)) for labels in predictions]
        for column, image in enumerate((photograph.image, *shown, embedding)):
            place = (GAP + column * (WIDTH + GAP), HEAD + row * (HEIGHT + GAP))
            canvas.paste(fitted(image), place)
    names = (*report.names[: report.known], "unknown")
    entries = [(names[label], rgb(colors[label])) for label in sorted(seen)]
    legend = draw_legend(entries, canvas.width, beside=False, size=18)
    buffer = io.BytesIO()
    whole = Image.fromarray(np.concatenate([np.array(canvas), legend[:, : canvas.width]]))
    whole.save(buffer, "WEBP", quality=82, method=6)
    write_atomically(arguments.out, buffer.getvalue())


def rgb(color: NDArray[np.uint8]) -> tuple[int, int, int]:
    """(3,) -> a tuple."""
    return int(color[0]), int(color[1]), int(color[2])


def fitted(rgb: RGB) -> Image.Image:
    """The center of the image, cropped to the cell's shape."""
    image = Image.fromarray(rgb)
    factor = max(WIDTH / image.width, HEIGHT / image.height)
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    left, top = (image.width - WIDTH) // 2, (image.height - HEIGHT) // 2
    return image.crop((left, top, left + WIDTH, top + HEIGHT))


if __name__ == "__main__":
    main()
