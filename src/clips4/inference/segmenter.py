"""Segmenter: a trained student (or a teacher alone) that answers with classes for pixels.

segmenter = Segmenter.load("runs/pets")
segmenter.set_image("photo.jpg")                    # read once
segmenter.segment(["cat", "sofa"])                  # any words, any number of times, in milliseconds
segmenter.segment(["cat", "sofa"], background="wall, floor")
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args, overload

import torch
from torch import Tensor

from clips4.config import Config, TeacherConfig
from clips4.errors import UserError
from clips4.inference import predict as answering
from clips4.inference.classifier import BackgroundRule, Classes, Query, Vectors, ZeroShotClassifier, parse_background
from clips4.inference.encoder import EncodedImage, Encoder, KeyedEncoder, Precision
from clips4.inference.refine.maskclip import Refinement
from clips4.inference.result import UNKNOWN_LABEL, Area, Segmentation
from clips4.inference.tta import Edges, InferenceOptions, PixelEncoder
from clips4.inference.upsample import nearest_class
from clips4.models.checkpoint import Prototypes, load_checkpoint
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.utils.devices import pick_device
from clips4.utils.image_input import ImageInput, ImageInputs, as_rgb, is_many

if TYPE_CHECKING:
    from clips4.inference.discovery import UnknownClass
    from clips4.utils.progress import ProgressReporter

Backend = Literal["torch", "onnx"]

__all__ = [
    "UNKNOWN_LABEL",
    "Area",
    "BackgroundRule",
    "EncodedImage",
    "ImageInput",
    "ImageInputs",
    "InferenceOptions",
    "PixelEncoder",
    "Segmentation",
    "Segmenter",
    "Vectors",
    "as_rgb",
    "nearest_class",
]


class Segmenter:
    """Segments pictures by class names.

    Made by ``Segmenter.load`` (a run) or ``Segmenter.from_teacher`` (no student). Several threads may use one together,
    but for ``set_image``, whose picture is the segmenter's own: threads give their pictures to ``segment`` instead.

    Args:
        encoder: what reads pictures.
        settings: of the teacher, which is loaded when a word new to the run is asked for.
        long_side: pictures are reduced to it before they are read.
        device: where the encoder is.
        prototypes: of the run.
        teacher: where it is loaded already.
        refinement: of a teacher alone.
        stride: pixels per position of the encoder's map; by default what encoder or teacher says.
        options: how pictures are read, where nothing else is said.
        precision: see ``load``.

    Attributes:
        names: the classes answered with where none are asked; empty for a teacher alone.
        prototypes: of the run; None for a teacher alone.
        options: how pictures are read.
        asker: what puts words into vectors.
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
        stride: int | None = None,
        options: InferenceOptions | None = None,
        precision: Precision = "auto",
    ):
        if refinement.key_smoothing and not hasattr(teacher, "encode_pixels_and_keys"):
            raise UserError(f"key smoothing: {settings.name} has no attention keys to smooth by; take a CLIP teacher")
        stride = stride or cast(int, getattr(encoder, "stride", teacher.patch_stride if teacher else 8))
        keyed = cast(KeyedEncoder, teacher) if refinement.key_smoothing else None
        self._encoder = Encoder(encoder, long_side, stride, device, precision, keyed)
        self._refinement, self._current = refinement, cast(EncodedImage | None, None)
        self.classifier = ZeroShotClassifier(settings, prototypes, teacher)
        self.prototypes = prototypes
        self.names: tuple[str, ...] = prototypes.names if prototypes else ()
        self.options = self._encoder.check(options or InferenceOptions())

    @classmethod
    def load(
        cls,
        run: str | Path,
        device: str = "auto",
        precision: Precision = "auto",
        options: InferenceOptions | None = None,
        backend: Backend = "torch",
    ) -> "Segmenter":
        """The student of a run.

        Args:
            run: folder that ``clips4 train`` wrote, one checkpoint of it, a hub id ``owner/name[@revision]``, or an
                ONNX file that ``clips4 export`` wrote.
            device: "auto", "cpu", "cuda", "mps".
            precision: of the network's arithmetic: "float32", "bfloat16" or "float16"; "auto" is bfloat16 on a GPU that
                computes with it, else float32. Embeddings are float32 all the same.
            options: how pictures are read (scales, windows, edges); each call may say otherwise.
            backend: "torch", or "onnx" for ONNX Runtime: it runs ONNX files in any case, and exports a run to the cache
                at its first use.

        Raises:
            UserError: no whole checkpoint there, or one that this backend cannot run.
        """
        from clips4.models.hub import fetch_run
        from clips4.models.onnx.runtime import is_exported, load_onnx

        if backend not in get_args(Backend):
            raise UserError(f"backend {backend!r}: there are {' and '.join(get_args(Backend))}")
        where = pick_device(device)
        if backend == "onnx" or is_exported(run):
            if precision not in ("auto", "float32"):
                raise UserError(f"precision {precision!r}: ONNX Runtime runs a file as it was exported; leave it out")
            encoder, exported = load_onnx(Path(run) if is_exported(run) else fetch_run(run), str(where))
            side, prototypes = exported.config.data.inference_side, exported.prototypes
            return cls(encoder, exported.config.teacher, side, where, prototypes, options=options, precision="float32")
        checkpoint = load_checkpoint(fetch_run(run))
        config = checkpoint.config
        return cls(
            checkpoint.student.to(where),
            config.teacher,
            config.data.inference_side,
            where,
            checkpoint.prototypes,
            options=options,
            precision=precision,
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        revision: str | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        options: InferenceOptions | None = None,
        backend: Backend = "torch",
    ) -> "Segmenter":
        """``load`` by the hub's habit: a folder, or a hub id with a branch, tag or commit of its own.

        Raises:
            UserError: see ``load`` and ``hub.fetch_run``.
        """
        from clips4.models.hub import fetch_run

        return cls.load(fetch_run(name, revision), device, precision, options, backend)

    @classmethod
    def from_teacher(
        cls,
        name: str,
        config: Config | None = None,
        device: str = "auto",
        refinement: Refinement = Refinement(),  # noqa: B008  # frozen
        options: InferenceOptions | None = None,
    ) -> "Segmenter":
        """A teacher alone: its pixel map against text vectors.

        Args:
            name: what ``load_teacher`` takes.
            config: how the teacher reads, and at what size.
            device: "auto", "cpu", "cuda", "mps".
            refinement: what is done to its answers.
            options: how pictures are read besides.

        Raises:
            UserError: no such teacher, or one without keys where key smoothing is asked for.
        """
        config = config or Config()
        where = pick_device(device)
        settings = config.teacher.model_copy(update={"name": name})
        teacher = load_teacher(settings).to(where)
        return cls(
            teacher.encode_pixels,
            settings,
            config.data.long_side,
            where,
            teacher=teacher,
            refinement=refinement,
            options=options,
            precision="float32",  # a teacher has a precision of its own, teacher.precision
        )

    # ----------------------------------------------------------------------------------------------------- reading

    def set_image(self, image: ImageInput, options: InferenceOptions | None = None) -> None:
        """Read a picture once, for any number of ``segment``, ``embed`` and ``cluster`` without a picture."""
        self._current = self.read(image, options)

    @overload
    def embed(self, images: ImageInput | None = None, options: InferenceOptions | None = None) -> Tensor: ...

    @overload
    def embed(self, images: ImageInputs, options: InferenceOptions | None = None) -> list[Tensor]: ...

    def embed(
        self, images: ImageInput | ImageInputs | None = None, options: InferenceOptions | None = None
    ) -> Tensor | list[Tensor]:
        """Pixel embeddings: (D, h, w) unit along D for one picture, a list of them for several."""
        if images is not None and is_many(images):
            return [read.z.clone() for read in self._encoder.read_all(images, self._options(options))]
        return self._one(images, options).z.clone()

    def read(self, image: ImageInput, options: InferenceOptions | None = None) -> EncodedImage:
        """Read one picture, for any number of ``label`` or ``answer``; those read last are remembered."""
        return self._encoder.read(image, self._options(options))

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D, read as they are: for protocols that set the size."""
        return self._encoder.encode(images)

    # --------------------------------------------------------------------------------------------------- answering

    @overload
    def segment(
        self,
        images: ImageInput | None = None,
        classes: Classes | None = None,
        unknown: bool = True,
        vectors: Vectors = "prototypes",
        background: BackgroundRule | float | str | Sequence[str] | None = None,
        options: InferenceOptions | None = None,
    ) -> Segmentation: ...

    @overload
    def segment(
        self,
        images: ImageInputs,
        classes: Classes | None = None,
        unknown: bool = True,
        vectors: Vectors = "prototypes",
        background: BackgroundRule | float | str | Sequence[str] | None = None,
        options: InferenceOptions | None = None,
    ) -> list[Segmentation]: ...

    def segment(
        self,
        images: ImageInput | ImageInputs | None = None,
        classes: Classes | None = None,
        unknown: bool = True,
        vectors: Vectors = "prototypes",
        background: BackgroundRule | float | str | Sequence[str] | None = None,
        options: InferenceOptions | None = None,
    ) -> Segmentation | list[Segmentation]:
        """Name the pixels of one or several pictures.

        Args:
            images: paths, PIL images, arrays or tensors (see ``as_rgb``); the one of ``set_image`` by default.
            classes: what to ask for (see ``vocabulary.load_classes``); the run's own classes by default.
            unknown: whether pixels nearest an unknown prototype are answered with "unknown".
            vectors: by "prototypes" (of known classes; new words by the run's bank of segments, or by text where it
                has none), or all by "text".
            background: what is answered with "background": a probability as .4, "cosine 0.2", or words as "wall, sky".
            options: how the pictures are read.

        Raises:
            UserError: unreadable picture, wrong names, or no names where there is no run to have any.
        """
        query = self.query(classes, vectors, background)
        if images is not None and is_many(images):
            reads = self._encoder.read_all(images, self._options(options))
            return [self.answer(read, query, unknown, options) for read in reads]
        return self.answer(self._one(images, options), query, unknown, options)

    def query(
        self,
        classes: Classes | None = None,
        vectors: Vectors = "prototypes",
        background: BackgroundRule | float | str | Sequence[str] | None = None,
    ) -> Query:
        """What ``segment`` compares pixels with, for any number of ``answer``."""
        return self.classifier.query(classes, vectors, parse_background(background))

    def class_vectors(
        self, classes: Classes | None = None, vectors: Vectors = "prototypes"
    ) -> tuple[tuple[str, ...], Tensor]:
        """Names and (K, D) unit vectors of the asked classes."""
        query = self.query(classes, vectors)
        return query.names, query.vectors

    def answer(
        self, read: EncodedImage, query: Query, unknown: bool = True, options: InferenceOptions | None = None
    ) -> Segmentation:
        """``segment`` for a picture that was read and a question that was put into vectors."""
        others = query.vectors[:0]
        if unknown and self.prototypes:
            # fitted prototypes stand beside each other; text was trained against the unknown as they stood then
            by_text = all(source == "text" for source in query.sources)
            others = self.prototypes.unknown if by_text else self.prototypes.query_unknown
        return answering.answer(read, query, others, self._refinement, self._options(options).refine)

    def label(self, read: EncodedImage, vectors: Tensor, refine: Edges | None = None) -> tuple[Tensor, Tensor]:
        """The class of every pixel of a picture by (L, D) vectors at hand; see ``answering.label_pixels``."""
        return answering.label_pixels(read, vectors, self._refinement, refine)

    # --------------------------------------------------------------------------------------- without words

    @overload
    def cluster(
        self, images: ImageInput | None = None, k: int = 8, seed: int = 0, options: InferenceOptions | None = None
    ) -> Segmentation: ...

    @overload
    def cluster(
        self, images: ImageInputs, k: int = 8, seed: int = 0, options: InferenceOptions | None = None
    ) -> list[Segmentation]: ...

    def cluster(
        self,
        images: ImageInput | ImageInputs | None = None,
        k: int = 8,
        seed: int = 0,
        options: InferenceOptions | None = None,
    ) -> Segmentation | list[Segmentation]:
        """Segment without any word: spherical k-means of the pixel embeddings, over one picture or all together.

        Args:
            images: as for ``segment``.
            k: clusters.
            seed: of the k-means.
            options: how the pictures are read.

        Returns:
            Answers whose names are "cluster 1" to "cluster k", the same over all pictures; ``vectors`` are the centres.

        Raises:
            UserError: k is not positive, or there are fewer pixel embeddings.
        """
        from clips4.inference.clustering import cluster_centers, cluster_query

        if images is not None and is_many(images):
            reads = list(self._encoder.read_all(images, self._options(options)))
            query = cluster_query(cluster_centers([read.z for read in reads], k, seed))
            return [self.answer(read, query, unknown=False, options=options) for read in reads]
        read = self._one(images, options)
        query = cluster_query(cluster_centers([read.z], k, seed))
        return self.answer(read, query, unknown=False, options=options)

    # ----------------------------------------------------------------------------------------------- the unknown

    def discover(
        self,
        images: ImageInput | ImageInputs,
        names: int = 5,
        examples: int = 4,
        progress: "ProgressReporter | None" = None,
    ) -> "list[UnknownClass]":
        """The unknown classes that training discovered, as they occur in pictures; see ``discovery.discover``."""
        from clips4.inference.discovery import discover

        return discover(self, images if is_many(images) else [images], names, examples, progress)

    def _options(self, options: InferenceOptions | None) -> InferenceOptions:
        return self.options if options is None else self._encoder.check(options)

    def _one(self, image: ImageInput | None, options: InferenceOptions | None) -> EncodedImage:
        if image is not None:
            return self.read(image, options)
        if self._current is None:
            raise UserError("no picture: give one, or set one with set_image")
        return self._current
