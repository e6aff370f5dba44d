"""Segmenter: a trained student (or a teacher alone) that answers with classes for pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from typing_extensions import TypeIs

from clips4.checkpoints import Prototypes, load_checkpoint
from clips4.config import Config, TeacherConfig
from clips4.devices import pick_device
from clips4.errors import UserError
from clips4.images import RGB, load_rgb, pil_to_rgb, reduce_to, resize_map, to_tensor
from clips4.teachers import Teacher, load_teacher
from clips4.vocabulary import UNKNOWN, ClassList, class_vectors, load_classes, load_templates

Picture = str | Path | Image.Image | NDArray[Any] | Tensor
Pictures = list[Any] | tuple[Picture, ...]  # lists are invariant: any list of pictures
Vectors = Literal["prototypes", "text"]

UNKNOWN_LABEL = -1
_MIN_SIDE = 32  # networks want a few positions; a smaller picture is enlarged for them
_LOGIT_BUDGET = 2**26  # values of upsampled logits held at a time


class PixelEncoder(Protocol):
    """(B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D: a student, or a teacher's ``encode_pixels``."""

    def __call__(self, images: Tensor) -> Tensor: ...


class Area(NamedTuple):
    """How much of a picture a class covers; ``label`` is ``UNKNOWN_LABEL`` for the unknown."""

    name: str
    label: int
    pixels: int
    share: float


@dataclass(frozen=True)
class Segmentation:
    """The answer for one picture.

    Attributes:
        image: (H, W, 3) uint8, the picture as decoded.
        labels: (H, W) int16, index into ``names``, ``UNKNOWN_LABEL`` where an unknown prototype is nearest.
        similarity: (H, W) float32, cosine of the pixel and the vector of its class.
        names: the asked classes.
    """

    image: RGB
    labels: NDArray[np.int16]
    similarity: NDArray[np.float32]
    names: tuple[str, ...]

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


class Segmenter:
    """Segments pictures by class names.

    Made by ``Segmenter.load`` (a run) or ``Segmenter.from_teacher`` (no student).

    Attributes:
        names: the classes answered with where none are asked; empty for a teacher alone.
    """

    def __init__(
        self,
        encoder: PixelEncoder,
        settings: TeacherConfig,
        long_side: int,
        device: torch.device,
        prototypes: Prototypes | None = None,
        teacher: Teacher | None = None,
    ):
        self._encoder, self._settings, self._long_side, self._device = encoder, settings, long_side, device
        self._teacher = teacher  # loaded when a name new to the run is asked for
        self.prototypes = prototypes
        self.names: tuple[str, ...] = prototypes.names if prototypes else ()

    @classmethod
    def load(cls, run: str | Path, device: str = "auto") -> "Segmenter":
        """The student of a run.

        Args:
            run: folder that ``clips4 train`` wrote, or one checkpoint of it.
            device: "auto", "cpu", "cuda", "mps".

        Raises:
            UserError: no whole checkpoint there.
        """
        checkpoint = load_checkpoint(Path(run))
        where = pick_device(device)
        student = checkpoint.student.to(where)
        return cls(
            student, checkpoint.config.teacher, checkpoint.config.data.inference_side, where, checkpoint.prototypes
        )

    @classmethod
    def from_teacher(cls, name: str, config: Config | None = None, device: str = "auto") -> "Segmenter":
        """A teacher alone: its pixel map against text vectors."""
        config = config or Config()
        where = pick_device(device)
        teacher = load_teacher(name).to(where)
        settings = config.teacher.model_copy(update={"name": name})
        return cls(teacher.encode_pixels, settings, config.data.long_side, where, teacher=teacher)

    @overload
    def embed(self, images: Picture) -> Tensor: ...

    @overload
    def embed(self, images: Pictures) -> list[Tensor]: ...

    def embed(self, images: Picture | Pictures) -> Tensor | list[Tensor]:
        """Pixel embeddings: (D, h, w) unit along D for one picture, a list of them for several."""
        if _is_many(images):
            return [self._embed(read_picture(image)) for image in images]
        return self._embed(read_picture(images))

    @overload
    def segment(
        self,
        images: Picture,
        classes: str | Path | Sequence[str] | ClassList | None = None,
        unknown: bool = True,
        vectors: Vectors = "prototypes",
    ) -> "Segmentation": ...

    @overload
    def segment(
        self,
        images: Pictures,
        classes: str | Path | Sequence[str] | ClassList | None = None,
        unknown: bool = True,
        vectors: Vectors = "prototypes",
    ) -> "list[Segmentation]": ...

    def segment(
        self,
        images: Picture | Pictures,
        classes: str | Path | Sequence[str] | ClassList | None = None,
        unknown: bool = True,
        vectors: Vectors = "prototypes",
    ) -> "Segmentation | list[Segmentation]":
        """Name the pixels of one or several pictures.

        Args:
            images: paths, PIL images, arrays or tensors (see ``read_picture``).
            classes: what to ask for (see ``vocabulary.load_classes``); the run's own classes by default.
            unknown: whether pixels nearest an unknown prototype are answered with "unknown".
            vectors: by "prototypes" of known classes (names new to the run by text), or all by "text".

        Raises:
            UserError: unreadable picture, wrong names, or no names where there is no run to have any.
        """
        names, matrix = self.class_vectors(classes, vectors)
        if _is_many(images):
            return [self.segment_by(image, names, matrix, unknown) for image in images]
        return self.segment_by(images, names, matrix, unknown)

    def segment_by(self, image: Picture, names: tuple[str, ...], matrix: Tensor, unknown: bool = True) -> Segmentation:
        """``segment`` for one picture by class vectors at hand, as ``class_vectors`` gives them."""
        rgb = read_picture(image)
        others = self.prototypes.unknown if unknown and self.prototypes else matrix[:0]
        z = self._embed(rgb)
        labels, similarity = nearest_class(z, torch.cat([matrix, others]).to(z), rgb.shape[:2])
        labels = torch.where(labels >= len(matrix), UNKNOWN_LABEL, labels)
        return Segmentation(rgb, labels.short().cpu().numpy(), similarity.float().cpu().numpy(), names)

    def class_vectors(
        self, classes: str | Path | Sequence[str] | ClassList | None = None, vectors: Vectors = "prototypes"
    ) -> tuple[tuple[str, ...], Tensor]:
        """Names and (K, D) unit vectors of the asked classes."""
        if vectors not in ("prototypes", "text"):
            raise UserError(f"class vectors are by 'prototypes' or 'text', not {vectors!r}")
        if classes is None:
            if self.prototypes is None:
                raise UserError("a teacher alone has no classes of its own; give --classes")
            return self.names, self.prototypes.known if vectors == "prototypes" else self.prototypes.text
        asked = load_classes(classes)
        own = {name: index for index, name in enumerate(self.names)}
        new = [index for index, name in enumerate(asked.names) if name not in own]
        rows: list[Tensor | None] = [None] * len(asked)
        if self.prototypes:
            source = self.prototypes.known if vectors == "prototypes" else self.prototypes.text
            rows = [source[own[name]] if name in own else None for name in asked.names]
        if new:
            self._teacher = self._teacher or load_teacher(self._settings.name)
            fresh = ClassList(tuple(asked.names[i] for i in new), tuple(asked.words[i] for i in new))
            text = class_vectors(self._teacher, fresh, load_templates(self._settings.templates)).cpu()
            for index, row in zip(new, text, strict=True):
                rows[index] = row
        return asked.names, torch.stack([row for row in rows if row is not None])

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D, read as they are: for protocols that set the size."""
        return self._encoder(images.to(self._device))

    @torch.no_grad()
    def _embed(self, image: RGB) -> Tensor:
        reduced = to_tensor(reduce_to(image, self._long_side))[None].to(self._device)
        short = min(reduced.shape[-2:])
        if short < _MIN_SIDE:
            factor = _MIN_SIDE / short
            height, width = (max(_MIN_SIDE, round(side * factor)) for side in reduced.shape[-2:])
            reduced = resize_map(reduced, (min(height, self._long_side), min(width, self._long_side)))
        return self._encoder(reduced)[0]


@torch.no_grad()
def nearest_class(z: Tensor, vectors: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Cosines upsampled to the picture's size, then argmax; classes are taken some at a time to bound memory.

    Args:
        z: (D, h, w) unit along D.
        vectors: (L, D) unit rows.
        size: (H, W).

    Returns:
        (H, W) int64 labels 0..L-1 (the lowest where equal) and (H, W) the cosine of each pixel's label.
    """
    height, width = size
    logits = torch.einsum("dhw,ld->lhw", z, vectors)
    best = torch.full((height, width), -torch.inf, dtype=logits.dtype, device=z.device)
    labels = torch.zeros((height, width), dtype=torch.long, device=z.device)
    at_once = max(1, _LOGIT_BUDGET // (height * width))
    for start in range(0, len(vectors), at_once):
        value, index = resize_map(logits[None, start : start + at_once], (height, width))[0].max(0)
        better = value > best
        best = torch.where(better, value, best)
        labels = torch.where(better, index + start, labels)
    return labels, best


def read_picture(picture: Picture) -> RGB:
    """(H, W, 3) uint8 of a picture in any form.

    Args:
        picture: a path; a PIL image; an array (H, W), (H, W, 3) or (H, W, 4) of uint8 or of floats in [0, 1]; or a
            tensor (3, H, W) of uint8 or of floats in [0, 1].

    Raises:
        UserError: a URL, an unreadable file, a wrong shape, NaN, or floats outside [0, 1].
    """
    if isinstance(picture, (str, Path)):
        if str(picture).startswith(("http://", "https://", "ftp://")):
            raise UserError(f"{picture}: addresses are not fetched; download the picture and give its path")
        return load_rgb(picture)
    if isinstance(picture, Image.Image):
        return pil_to_rgb(picture)
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or picture.shape[0] != 3:
            raise UserError(f"a tensor picture is (3, H, W), got {tuple(picture.shape)}")
        picture = picture.detach().cpu().permute(1, 2, 0).numpy()
    array = np.asarray(picture)
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise UserError(f"an array picture is (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UserError("a picture of floats holds values in [0, 1]; this one has others, or NaN")
        array = np.round(255 * array).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"an array picture is uint8 or float, got {array.dtype}")
    return pil_to_rgb(Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array))


def _is_many(images: Picture | Pictures) -> TypeIs[Pictures]:
    return isinstance(images, (list, tuple))
