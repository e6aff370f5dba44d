"""The connected parts of a prediction, with their masks, scores and embeddings."""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clips4.outputs.labeled_image import UNKNOWN_LABEL, LabeledImage, connected_parts
from clips4.utils.images import UNKNOWN_NAME


@dataclass(frozen=True, eq=False)
class Segment:
    """A connected part of an image that has one class.

    Attributes:
        name: of its class; "unknown" if an unknown prototype is nearest.
        label: index of the class; ``UNKNOWN_LABEL`` for unknown.
        unknown: the discovered unknown class, 0..U-1; None for a class that has a name.
        pixels: its area.
        box: (left, top, width, height) in pixels.
        mask: (height, width) of the box, True where the part is.
        score: mean similarity of its pixels, in [-1, 1].
        v: (D,) unit, the normalized sum of its pixel embeddings; None if the result has no embeddings.
    """

    name: str
    label: int
    unknown: int | None
    pixels: int
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_] = field(repr=False)
    score: float
    v: NDArray[np.float32] | None = field(repr=False)


def segments_of(image: LabeledImage, z: Tensor | None = None) -> list[Segment]:
    """Connected parts (8 neighbors, as in COCO) of each class and each discovered unknown class, largest first.

    Args:
        image: a prediction.
        z: (D, h, w) its pixel embeddings, which give each part its own.
    """
    values = image.labels.astype(np.int32) + 1  # 0 for unknown, above K for the discovered unknown classes
    if image.unknown_labels is not None:
        values = np.where(image.unknown_labels >= 0, len(image.names) + 1 + image.unknown_labels, values)
    numbered, parts = connected_parts(values)
    scores = np.bincount(numbered.ravel(), weights=image.similarity.ravel())
    embeddings = None if z is None else pool_parts(z, numbered, len(scores))
    found = []
    for part in parts:
        pixels, (height, width) = int(part.mask.sum()), part.mask.shape
        label = part.label - 1 if part.label <= len(image.names) else UNKNOWN_LABEL
        found.append(
            Segment(
                image.names[label] if label >= 0 else UNKNOWN_NAME,
                label,
                part.label - len(image.names) - 1 if part.label > len(image.names) else None,
                pixels,
                (part.left, part.top, width, height),
                part.mask,
                float(scores[part.number] / pixels),
                None if embeddings is None else embeddings[part.number],
            )
        )
    return sorted(found, key=lambda segment: -segment.pixels)


@torch.no_grad()
def pool_parts(z: Tensor, parts: NDArray[np.integer], count: int) -> NDArray[np.float32]:
    """The normalized sum of the pixel embeddings of each part; a pixel has the embedding of its position in the map.

    Args:
        z: (D, h, w).
        parts: (H, W) numbers of parts in 0..count - 1.

    Returns:
        (count, D) unit rows; zero for a number that does not occur.
    """
    (height, width), (rows, columns) = parts.shape, z.shape[1:]
    row_of, column_of = np.arange(height) * rows // height, np.arange(width) * columns // width
    rows_of_z = z.float().cpu().permute(1, 2, 0)  # (h, w, D)
    sums = torch.zeros(count, len(z))
    for row in np.unique(row_of):
        band = parts[row_of == row].astype(np.int64) * columns + column_of
        pairs, times = np.unique(band, return_counts=True)
        weighted = rows_of_z[int(row), pairs % columns] * torch.from_numpy(times)[:, None]
        sums.index_add_(0, torch.from_numpy(pairs // columns), weighted)
    return F.normalize(sums, dim=1).numpy()
