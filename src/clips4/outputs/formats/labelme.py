"""labelme's JSON: a polygon for each connected part of a class.

Polygons have no holes: a hole is joined to the outline by a cut (see ``polygons``). Unknown pixels have none.
"""

from typing import Any

import numpy as np

from clips4.outputs.labeled_image import MIN_SHARE, LabeledImage, connected_parts
from clips4.outputs.polygons import TOLERANCE, polygon_of

VERSION = "5.5.0"  # of labelme whose files these are like


def labelme_document(
    result: LabeledImage, image_path: str, min_share: float = MIN_SHARE, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """One image's annotation.

    Args:
        result: the image and its labels.
        image_path: path of the image's file, absolute or relative to the JSON.
        min_share: connected parts of a smaller share of the image are left out.
        tolerance: see ``polygons.outlines``.
    """
    height, width = result.labels.shape
    shapes = []
    for part in connected_parts(result.labels, min_share * result.labels.size)[1]:
        polygon = polygon_of(part.mask, tolerance) + np.array([part.left, part.top])
        shapes.append(
            {
                "label": result.names[part.label],
                "points": polygon.round(2).tolist(),
                "group_id": None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
            }
        )
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
