"""The prediction for one image: a class for every pixel, its connected parts, and what is shown and made of it."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.parts import Segment, segments_of
from clips4.inference.upsample import upsampled_bands
from clips4.outputs import encode, render
from clips4.outputs.class_colors import class_colors
from clips4.outputs.formats.coco import coco_document
from clips4.outputs.labeled_image import LabeledImage
from clips4.utils.images import RGB, UNKNOWN_COLOR, encode_png, reduce_to
from clips4.utils.text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARPNESS = 40.0  # of the softmax that turns cosines into probabilities, as in protocol clips4-v1
_SHOWN_SIDE = 720  # pixels of the long side of a result in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation(LabeledImage):
    """The prediction for one image; see ``LabeledImage`` for labels and names.

    With a background rule, "background" is among ``names``: the last one, unless it is a class of its own.

    Attributes:
        z: (D, h, w) pixel embeddings, unit along D.
        vectors: (L, D) class vectors, unit rows.
        owner: (L,) the index into ``names`` of each vector.
        source: the image's file, if it came from one.

    Example:
        >>> segmenter.segment("photo.jpg", ["cat", "cup"]).names
        ('cat', 'cup')
    """

    z: Tensor | None = field(default=None, repr=False)
    vectors: Tensor | None = field(default=None, repr=False)
    owner: Tensor | None = field(default=None, repr=False)
    source: str = field(default="", compare=False)

    @torch.no_grad()
    def probabilities(self, scale: float = SHARPNESS) -> NDArray[np.float32]:
        """How probable each class is at each pixel, among the classes of the query.

        A softmax of cosines, upsampled to the image's size; of a class with several vectors the nearest one counts. It
        takes 4 K H W bytes. The largest one is that of ``labels``, except at unknown pixels, at background by a
        threshold, and where labels are refined to the image's edges or by its context.

        Args:
            scale: the cosines are multiplied by it; a larger one is more decided.

        Returns:
            (K, H, W) float32 in the order of ``names``, which sums to 1 over K. A background without a vector has 0.

        Raises:
            ValueError: the result has no embeddings.

        Example:
            >>> probabilities = segmenter.segment("photo.jpg", ["cat", "cup"]).probabilities()
            >>> probabilities.shape, probabilities.sum(0).round(3).min().item()
            ((2, 72, 96), 1.0)
        """
        if self.z is None or self.vectors is None or self.owner is None:
            raise ValueError("the result holds no embeddings, so it has no probabilities")
        cosines = torch.einsum("dhw,ld->lhw", self.z.float(), self.vectors.to(self.z.device).float())
        found = np.zeros((len(self.names), *self.labels.shape), np.float32)
        for place, large in upsampled_bands(cosines, self.labels.shape):
            best = torch.full((len(self.names), *large.shape[1:]), -torch.inf, device=large.device)
            for label in self.owner.unique().tolist():
                best[label] = large[self.owner == label].amax(0)
            found[:, *place] = (scale * best).softmax(0).cpu().numpy()
        return found

    def plot(self, axes: "Axes | None" = None, alpha: float = 0.55, legend: bool = True) -> "Axes":
        """Draw the image under its class colors with matplotlib.

        Args:
            axes: to draw on; new ones by default.
            alpha: opacity of the colors, in [0, 1].
            legend: whether to list the classes that occur, with their shares.

        Returns:
            The axes.

        Example:
            >>> axes = segmenter.segment("photo.jpg").plot()
            >>> axes.get_images()[0].get_size()
            (72, 96)
        """
        from matplotlib.patches import Patch

        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.subplots(layout="constrained")[1]
        axes.imshow(render.overlay(self, alpha))
        axes.set_axis_off()
        if legend:
            handles = [
                Patch(facecolor=np.array(color) / 255, label=f"{name} {percent(share)}")
                for name, share, color in self._colored_areas()
            ]
            axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        return axes

    def _colored_areas(self) -> list[tuple[str, float, tuple[int, ...]]]:
        """Name, share and color of each class that occurs."""
        colors = class_colors(self.names)
        return [
            (area.name, area.share, tuple(map(int, colors[area.label])) if area.label >= 0 else UNKNOWN_COLOR)
            for area in self.areas()
        ]

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay with its legend, reduced."""
        return encode_png(reduce_to(self.overlay(), _SHOWN_SIDE))

    def _repr_html_(self) -> str:
        """What a notebook shows: the overlay beside a table of the classes that occur."""
        shown = base64.b64encode(encode_png(reduce_to(self.overlay(legend=False), _SHOWN_SIDE))).decode()
        rows = "".join(
            f'<tr><td style="background:rgb{color}">&emsp;</td><td style="text-align:left">{html.escape(name)}</td>'
            f"<td>{percent(share)}</td></tr>"
            for name, share, color in self._colored_areas()
        )
        image = f'<img alt="{html.escape(repr(self))}" src="data:image/png;base64,{shown}">'
        return f'<div style="display:flex;gap:1em;align-items:start">{image}<table>{rows}</table></div>'

    @property
    def from_text_alone(self) -> tuple[str, ...]:
        """Classes predicted by their text vectors, which lie far from pixel vectors: trust these least.

        Example:
            >>> segmenter.segment("photo.jpg", ["cat"]).from_text_alone
            ()
        """
        return tuple(name for name, source in zip(self.names, self.sources, strict=False) if source == "text")

    @cached_property
    def segments(self) -> list[Segment]:
        """Connected parts (8 neighbors, as in COCO) of each class and each discovered unknown class, largest first.

        Example:
            >>> sum(part.pixels for part in segmenter.segment("photo.jpg").segments) == 72 * 96
            True
        """
        return segments_of(self, self.z)

    def embeddings(self) -> encode.Embeddings:
        """What the labels were predicted from, as arrays for ``encode.embeddings_npz``.

        Returns:
            z (D, h, w), vectors (L, D) and their classes (L,).

        Raises:
            ValueError: the result has no embeddings.

        Example:
            >>> len(segmenter.segment("photo.jpg").embeddings().vectors)
            3
        """
        if self.z is None or self.vectors is None or self.owner is None:
            raise ValueError("the result holds no embeddings to save")
        z, vectors = self.z.float().cpu().numpy(), self.vectors.float().cpu().numpy()
        return encode.Embeddings(z, vectors, self.owner.cpu().numpy())

    def overlay(self, legend: bool = True) -> RGB:
        """The image under its class colors.

        Args:
            legend: whether to add a panel of the classes that occur.

        Returns:
            (H', W', 3) uint8; without a legend of the image's own size.

        Example:
            >>> segmenter.segment("photo.jpg").overlay(legend=False).shape
            (72, 96, 3)
        """
        return render.overlay_with_legend(self) if legend else render.overlay(self)

    def save(
        self,
        folder: str | Path,
        stem: str = "picture",
        kinds: Sequence[encode.Kind] = ("png", "overlay", "json"),
        source: str | Path = "",
    ) -> list[Path]:
        """Write the files that ``clips4 segment`` writes for an image (see ``outputs.encode.save_image``).

        Args:
            folder: created if it does not exist.
            stem: of the file names.
            kinds: "png", "overlay", "json".
            source: the image's file, for the JSON; known where the image came from one.

        Returns:
            The paths written.

        Raises:
            UserError: an unknown kind, or one that only a folder of images has.

        Examples:
            >>> [path.name for path in segmenter.segment("photo.jpg").save("segmented", "photo")]
            ['photo.png', 'photo_overlay.png', 'photo.json']
        """
        chosen = encode.parse_kinds(kinds if isinstance(kinds, str) else ",".join(kinds))
        return encode.save_image(self, str(source or self.source), Path(folder), stem, chosen)

    def to_coco(self, source: str = "picture") -> dict[str, Any]:
        """A COCO document of this image.

        Args:
            source: the ``file_name``.

        Returns:
            Images, annotations with RLE masks, categories.

        Examples:
            >>> [each["name"] for each in segmenter.segment("photo.jpg").to_coco("photo.jpg")["categories"]]
            ['cat', 'cup', 'grass']
        """
        return coco_document([self], [source])

    def to_transformers(self) -> list[dict[str, Any]]:
        """As the ``image-segmentation`` pipeline of transformers gives it for semantic segmentation.

        Returns:
            For each class that occurs, largest first, unknown last: ``label``, ``mask`` (a PIL image of mode L, 255
            where the class is) and ``score`` (None, as there).

        Examples:
            >>> segmenter.segment("photo.jpg").to_transformers()[0]["mask"].size
            (96, 72)
        """
        return [
            {
                "score": None,
                "label": area.name,
                "mask": Image.fromarray(255 * (self.labels == area.label).astype(np.uint8)),
            }
            for area in self.areas()
        ]

    def to_supervision(self) -> Any:
        """``supervision.Detections``: one for each connected part of a class; unknown parts are left out.

        Returns:
            Detections whose ``class_id`` is the index of the class, ``confidence`` the mean similarity in [-1, 1], and
            ``data["class_name"]`` the name.

        Raises:
            UserError: the package supervision is not installed.

        Example:
            >>> segmenter.segment("photo.jpg").to_supervision()  # doctest: +SKIP
        """
        try:
            import supervision
        except ImportError:
            raise UserError("supervision is not installed: pip install supervision")
        parts = [part for part in self.segments if part.label >= 0]
        masks = np.zeros((len(parts), *self.labels.shape), bool)
        for mask, part in zip(masks, parts, strict=True):
            left, top, width, height = part.box
            mask[top : top + height, left : left + width] = part.mask
        boxes: NDArray[np.float32] = np.array([part.box for part in parts], np.float32).reshape(-1, 4)
        return supervision.Detections(
            xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
            mask=masks,
            confidence=np.array([part.score for part in parts], np.float32),
            class_id=np.array([part.label for part in parts], int),
            data={"class_name": np.array([part.name for part in parts], np.str_)},
        )
