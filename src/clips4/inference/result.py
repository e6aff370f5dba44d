"""The answer for one picture: a class for every pixel, and everything that can be asked of it afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as connected
from torch import Tensor

from clips4.data.class_names import UNKNOWN
from clips4.utils.images import RGB

if TYPE_CHECKING:
    from clips4.outputs.render import Kind

UNKNOWN_LABEL = -1


class Area(NamedTuple):
    """How much of a picture a class covers; ``label`` is ``UNKNOWN_LABEL`` for the unknown."""

    name: str
    label: int
    pixels: int
    share: float


@dataclass(frozen=True, eq=False)
class Segment:
    """A connected part of a picture that has one answer.

    Attributes:
        name: of its class; "unknown" where an unknown prototype is nearest.
        label: index of the class, ``UNKNOWN_LABEL`` for the unknown.
        unknown: which discovered unknown class it belongs to; None for a class that was asked.
        pixels: its area.
        box: (left, top, width, height) in pixels.
        mask: (height, width) of the box, where it lies.
        score: mean similarity of its pixels, in [-1, 1].
        v: (D,) unit, the normalised sum of its pixel embeddings; None where the result keeps none.
    """

    name: str
    label: int
    unknown: int | None
    pixels: int
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_] = field(repr=False)
    score: float
    v: NDArray[np.float32] | None = field(repr=False)


@dataclass(frozen=True)
class Segmentation:
    """The answer for one picture.

    Attributes:
        image: (H, W, 3) uint8, the picture as decoded.
        labels: (H, W) int16, index into ``names``, ``UNKNOWN_LABEL`` where an unknown prototype is nearest.
        similarity: (H, W) float32, cosine of the pixel and the vector of its class.
        names: the asked classes; where a background was asked for, "background" is among them, last unless it is a
            class of its own.
        unknown_labels: (H, W) int16, the discovered unknown class of each unknown pixel, 0..U-1, and -1 elsewhere; None
            where nothing could be unknown.
        sources: by which vector each of ``names`` was answered: "prototype" (a class of the run), "bank" (found by its
            text among training segments), "text" (text alone) or "rule" (a background threshold).
        z: (D, h, w) pixel embeddings, unit along D.
        vectors: (L, D) the vectors of the asked words, unit rows, and ``owner`` (L,) the index into ``names`` of each.
    """

    image: RGB
    labels: NDArray[np.int16]
    similarity: NDArray[np.float32]
    names: tuple[str, ...]
    unknown_labels: NDArray[np.int16] | None = None
    sources: tuple[str, ...] = ()
    z: Tensor | None = field(default=None, repr=False)
    vectors: Tensor | None = field(default=None, repr=False)
    owner: Tensor | None = field(default=None, repr=False)

    def areas(self) -> list[Area]:
        """Classes that occur, largest first, the unknown last."""
        values, counts = np.unique(self.labels, return_counts=True)
        found = [
            Area(self.names[value] if value >= 0 else UNKNOWN, int(value), int(count), count / self.labels.size)
            for value, count in zip(values, counts, strict=True)
        ]
        return sorted(found, key=lambda area: (area.label == UNKNOWN_LABEL, -area.pixels))

    @property
    def unknown_share(self) -> float:
        """Share of the picture that is unknown, in [0, 1]."""
        return float((self.labels == UNKNOWN_LABEL).mean())

    def unknown_areas(self) -> list[Area]:
        """Discovered unknown classes that occur, largest first; ``label`` is the number of the class, 0..U-1."""
        if self.unknown_labels is None:
            return []
        values, counts = np.unique(self.unknown_labels[self.unknown_labels >= 0], return_counts=True)
        found = [
            Area(f"{UNKNOWN} {value + 1}", int(value), int(count), count / self.labels.size)
            for value, count in zip(values, counts, strict=True)
        ]
        return sorted(found, key=lambda area: -area.pixels)

    @property
    def from_text_alone(self) -> tuple[str, ...]:
        """Asked classes that were answered by their text vectors, which lie far from pixels: trust these least."""
        return tuple(name for name, source in zip(self.names, self.sources, strict=False) if source == "text")

    # ------------------------------------------------------------------------------------------------- its segments

    @cached_property
    def segments(self) -> list[Segment]:
        """The connected parts of each class and of each discovered unknown class, largest first (4-connected)."""
        parts = self._parts()
        pixels = np.bincount(parts.ravel())
        scores = np.bincount(parts.ravel(), weights=self.similarity.ravel()) / pixels.clip(1)
        embeddings = None if self.z is None else pool_parts(self.z, parts, len(pixels))
        found = []
        for number, box in enumerate(ndimage.find_objects(parts), 1):
            rows, columns = box
            mask = parts[box] == number
            place = rows.start + int(mask.any(1).argmax()), columns.start + int(mask[0].argmax())
            label = int(self.labels[place])
            unknown = None
            if label == UNKNOWN_LABEL and self.unknown_labels is not None:
                unknown = int(self.unknown_labels[place])
            found.append(
                Segment(
                    self.names[label] if label >= 0 else UNKNOWN,
                    label,
                    unknown,
                    int(pixels[number]),
                    (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start),
                    mask,
                    float(scores[number]),
                    None if embeddings is None else embeddings[number],
                )
            )
        return sorted(found, key=lambda segment: -segment.pixels)

    def _parts(self) -> NDArray[np.int32]:
        """(H, W) 1..S, a number for each connected part."""
        answers = self.labels.astype(np.int32) + 1  # 0 for the unknown
        if self.unknown_labels is not None:
            answers = np.where(self.unknown_labels >= 0, len(self.names) + 1 + self.unknown_labels, answers)
        return connected(answers, connectivity=1, background=-1).astype(np.int32)

    # ------------------------------------------------------------------------------------------------------- outputs

    def overlay(self, legend: bool = True) -> RGB:
        """(H', W', 3) the picture under its class colours, with a legend; without one at the picture's own size."""
        from clips4.outputs import render as outputs

        return outputs.overlay_with_legend(self) if legend else outputs.overlay(self)

    def save(
        self,
        folder: str | Path,
        stem: str = "picture",
        kinds: "Sequence[Kind]" = ("png", "overlay", "json"),
        source: str | Path = "",
    ) -> list[Path]:
        """Write the files that ``clips4 segment`` writes for a picture (see ``outputs.save_segmentation``).

        Args:
            folder: made where it is not there.
            stem: what the files' names begin with.
            kinds: see ``outputs.KINDS``.
            source: what the JSON says of where the picture came from.

        Returns:
            The paths written.

        Raises:
            UserError: a kind that does not exist.
        """
        from clips4.outputs import render as outputs

        chosen = outputs.parse_kinds(",".join(kinds))
        return outputs.save_segmentation(self, str(source), Path(folder), stem, chosen)

    def to_coco(self, source: str = "picture") -> dict[str, Any]:
        """A COCO document of this picture: images, annotations with RLE masks, categories."""
        from clips4.outputs.coco import coco_document

        return coco_document([self], [source])


@torch.no_grad()
def pool_parts(z: Tensor, parts: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """The normalised sum of the pixel embeddings of each part of a picture, a pixel having that of the map's position
    in which it lies.

    Args:
        z: (D, h, w).
        parts: (H, W) in 0..count - 1.

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
