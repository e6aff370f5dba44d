"""Label Studio's JSON: one task per image, with polygons or brush masks as a prediction to correct.

Import it into a project whose labeling configuration is ``labeling_config``; ``data.image`` is the image's path, as
local file storage serves it. A polygon stands for a connected part, in percents of the image. It has no holes: a hole
is joined to the outline by a cut (see ``polygons``). A brush mask stands for a whole class and has every pixel. Unknown
pixels have neither.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from clips4 import __version__
from clips4.outputs.brush_rle import encode
from clips4.outputs.class_colors import class_colors
from clips4.outputs.labeled_image import MIN_SHARE, LabeledImage, connected_parts
from clips4.outputs.polygons import TOLERANCE, polygon_of

_FROM, _TO = "label", "image"  # names in the labeling configuration


def label_studio_task(
    result: LabeledImage,
    source: str,
    brush: bool = False,
    min_share: float = MIN_SHARE,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """One image's task.

    Args:
        result: the image and its labels.
        source: the image's file, absolute.
        brush: whether to write brush masks instead of polygons.
        min_share: connected parts of a smaller share of the image have no polygon.
        tolerance: see ``polygons.outlines``.
    """
    height, width = result.labels.shape
    values: dict[str, dict[str, Any]] = {}
    if brush:
        for label in np.unique(result.labels[result.labels >= 0]).tolist():
            masks = {"format": "rle", "rle": encode(result.labels == label), "brushlabels": [result.names[label]]}
            values[f"class{label}"] = masks
    else:
        for part in connected_parts(result.labels, min_share * result.labels.size)[1]:
            points = (polygon_of(part.mask, tolerance) + np.array([part.left, part.top])) * 100 / (width, height)
            outline = {"points": points.clip(0, 100).round(4).tolist(), "closed": True}
            values[f"part{part.number}"] = {**outline, "polygonlabels": [result.names[part.label]]}
    regions = [
        {
            "id": id,
            "type": "brushlabels" if brush else "polygonlabels",
            "from_name": _FROM,
            "to_name": _TO,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": value,
        }
        for id, value in values.items()
    ]
    address = f"/data/local-files/?d={Path(source).as_posix().lstrip('/')}"
    return {
        "data": {"image": address},
        "predictions": [{"model_version": f"clips4 {__version__}", "result": regions}],
    }


def labeling_config(names: Sequence[str], brush: bool = False) -> str:
    """The project's labeling configuration: XML with the classes and their colors."""
    colors = class_colors(names).tolist()
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{red:02x}{green:02x}{blue:02x}"/>\n'
        for name, (red, green, blue) in zip(names, colors, strict=True)
    )
    control = "BrushLabels" if brush else "PolygonLabels"
    return (
        f'<View>\n  <Image name="{_TO}" value="$image"/>\n  <{control} name="{_FROM}" toName="{_TO}">\n'
        f"{labels}  </{control}>\n</View>\n"
    )
