"""Segmenter: a trained student (or a teacher alone) that answers with classes for pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast, overload

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
from clips4.teachers.refinement import PamrRefiner, Refinement, refine_scores
from clips4.teachers.text_cache import cached_class_vectors
from clips4.vocabulary import UNKNOWN, ClassList, load_classes, load_templates

Picture = str | Path | Image.Image | NDArray[Any] | Tensor
Pictures = list[Any] | tuple[Picture, ...]  # lists are invariant: any list of pictures
Vectors = Literal["prototypes", "text"]
Backend = Literal["torch", "onnx"]

UNKNOWN_LABEL = -1
_MIN_SIDE = 32  # networks want a few positions; a smaller picture is enlarged for them
_LOGIT_BUDGET = 2**26  # values of upsampled logits held at a time


class PixelEncoder(Protocol):
    """(B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D: a student, or a teacher's ``encode_pixels``."""

    def __call__(self, images: Tensor) -> Tensor: ...


class KeyedEncoder(Protocol):
    """A teacher that gives the keys (B, W, h, w) of its last attention besides; key smoothing needs them."""

    def encode_pixels_and_keys(self, images: Tensor) -> tuple[Tensor, Tensor]: ...


class ReadPicture(NamedTuple):
    """A picture (H, W, 3), its pixel embeddings (D, h, w), and keys (W, h, w) where key smoothing asks for them."""

    image: RGB
    z: Tensor
    keys: Tensor | None


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
        refinement: Refinement = Refinement(),  # noqa: B008  # frozen
    ):
        if refinement.key_smoothing and not hasattr(teacher, "encode_pixels_and_keys"):
            raise UserError(f"key smoothing: {settings.name} has no attention keys to smooth by; take a CLIP teacher")
        self._refinement = refinement
        self._encoder, self._settings, self._long_side, self._device = encoder, settings, long_side, device
        self._teacher = teacher  # loaded when a name new to the run is asked for
        self.prototypes = prototypes
        self.names: tuple[str, ...] = prototypes.names if prototypes else ()

    @classmethod
    def load(cls, run: str | Path, device: str = "auto", backend: Backend = "torch") -> "Segmenter":
        """The student of a run.

        Args:
            run: folder that ``clips4 train`` wrote, one checkpoint of it, a hub id ``owner/name[@revision]``, or an
                ONNX file that ``clips4 export`` wrote.
            device: "auto", "cpu", "cuda", "mps".
            backend: "torch", or "onnx" for ONNX Runtime: it runs ONNX files in any case, and exports a run to the cache
                at its first use.

        Raises:
            UserError: no whole checkpoint there, or one that this backend cannot run.
        """
        from clips4.hub import fetch_run
        from clips4.onnx_backend import is_exported, load_onnx

        if backend not in ("torch", "onnx"):
            raise UserError(f"backend {backend!r}: there are torch and onnx")
        where = pick_device(device)
        if backend == "onnx" or is_exported(run):
            encoder, exported = load_onnx(Path(run) if is_exported(run) else fetch_run(run), str(where))
            config = exported.config
            return cls(encoder, config.teacher, config.data.inference_side, where, exported.prototypes)
        checkpoint = load_checkpoint(fetch_run(run))
        student = checkpoint.student.to(where)
        return cls(
            student, checkpoint.config.teacher, checkpoint.config.data.inference_side, where, checkpoint.prototypes
        )

    @classmethod
    def from_pretrained(
        cls, name: str | Path, revision: str | None = None, device: str = "auto", backend: Backend = "torch"
    ) -> "Segmenter":
        """``load`` by the hub's habit: a hub id with a branch, tag or commit of its own, or a folder.

        Raises:
            UserError: see ``load`` and ``hub.fetch_run``.
        """
        from clips4.hub import fetch_run

        return cls.load(fetch_run(name, revision), device, backend=backend)

    @classmethod
    def from_teacher(
        cls,
        name: str,
        config: Config | None = None,
        device: str = "auto",
        refinement: Refinement = Refinement(),  # noqa: B008  # frozen
    ) -> "Segmenter":
        """A teacher alone: its pixel map against text vectors.

        Args:
            name: what ``load_teacher`` takes.
            config: how the teacher reads, and at what size.
            device: "auto", "cpu", "cuda", "mps".
            refinement: what is done to its answers.

        Raises:
            UserError: no such teacher, or one without keys where key smoothing is asked for.
        """
        config = config or Config()
        where = pick_device(device)
        settings = config.teacher.model_copy(update={"name": name})
        teacher = load_teacher(settings).to(where)
        return cls(
            teacher.encode_pixels, settings, config.data.long_side, where, teacher=teacher, refinement=refinement
        )

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
        read = self.read(image)
        others = self.prototypes.unknown if unknown and self.prototypes else matrix[:0]
        labels, similarity = self.label(read, torch.cat([matrix, others]))
        labels = torch.where(labels >= len(matrix), UNKNOWN_LABEL, labels)
        return Segmentation(read.image, labels.short().cpu().numpy(), similarity.float().cpu().numpy(), names)

    def read(self, image: Picture) -> ReadPicture:
        """Read one picture, for any number of ``label``."""
        rgb = read_picture(image)
        if not self._refinement.key_smoothing:
            return ReadPicture(rgb, self._embed(rgb), None)
        keyed = cast(KeyedEncoder, self._teacher)
        z, keys = keyed.encode_pixels_and_keys(self._reduced(rgb))
        return ReadPicture(rgb, z[0], keys[0])

    @torch.no_grad()
    def label(self, read: ReadPicture, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The class of every pixel of a picture, refined as this segmenter was asked to.

        Args:
            read: from ``read``.
            vectors: (L, D) unit rows.

        Returns:
            (H, W) int64 labels 0..L-1, and (H, W) scores: cosines, or smoothed probabilities after key smoothing.
        """
        cosines = torch.einsum("dhw,ld->lhw", read.z, vectors.to(read.z))
        scores, asked = refine_scores(cosines, read.keys, self._refinement)
        picture = to_tensor(read.image).to(read.z.device)
        refine = PamrRefiner(picture) if self._refinement.pamr else None
        labels, best = best_class(scores, read.image.shape[:2], refine)
        return asked[labels], best

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
            self._teacher = self._teacher or load_teacher(self._settings)
            fresh = ClassList(tuple(asked.names[i] for i in new), tuple(asked.words[i] for i in new))
            text = cached_class_vectors(self._teacher, fresh, load_templates(self._settings.templates))
            for index, row in zip(new, text, strict=True):
                rows[index] = row
        return asked.names, torch.stack([row for row in rows if row is not None])

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D, read as they are: for protocols that set the size."""
        return self._encoder(images.to(self._device))

    @torch.no_grad()
    def _embed(self, image: RGB) -> Tensor:
        return self._encoder(self._reduced(image))[0]

    def _reduced(self, image: RGB) -> Tensor:
        """(1, 3, H, W) as the network is to see it."""
        reduced = to_tensor(reduce_to(image, self._long_side))[None].to(self._device)
        short = min(reduced.shape[-2:])
        if short < _MIN_SIDE:
            factor = _MIN_SIDE / short
            height, width = (max(_MIN_SIDE, round(side * factor)) for side in reduced.shape[-2:])
            reduced = resize_map(reduced, (min(height, self._long_side), min(width, self._long_side)))
        return reduced


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
    return best_class(torch.einsum("dhw,ld->lhw", z, vectors), size)


@torch.no_grad()
def best_class(
    scores: Tensor, size: tuple[int, ...], refine: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Scores (L, h, w) upsampled to (H, W), refined there if wanted, then argmax; some classes at a time.

    Returns:
        (H, W) int64 labels 0..L-1 (the lowest where equal) and (H, W) the score of each pixel's label.
    """
    height, width = size
    best = torch.full((height, width), -torch.inf, dtype=scores.dtype, device=scores.device)
    labels = torch.zeros((height, width), dtype=torch.long, device=scores.device)
    at_once = max(1, _LOGIT_BUDGET // (height * width))
    for start in range(0, len(scores), at_once):
        upsampled = resize_map(scores[None, start : start + at_once], (height, width))[0]
        value, index = (refine(upsampled) if refine else upsampled).max(0)
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
