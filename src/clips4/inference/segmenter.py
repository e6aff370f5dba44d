"""Segmenter: a trained student (or a teacher without one) that predicts the class of every pixel.

segmenter = Segmenter.load("runs/pets")
segmenter.set_image("photo.jpg")                    # encoded once
segmenter.segment(["cat", "sofa"])                  # any class names, any number of times, in milliseconds
segmenter.segment(["cat", "sofa"], background="wall, floor")
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args, overload

import torch
from torch import Tensor

from clips4.config import Config, TeacherConfig
from clips4.errors import UserError
from clips4.inference import predict
from clips4.inference.classifier import BackgroundRule, Classes, Query, Vectors, ZeroShotClassifier, parse_background
from clips4.inference.encoder import EncodedImage, Encoder, KeyedEncoder, Precision
from clips4.inference.refine.maskclip import Refinement
from clips4.inference.result import Segmentation
from clips4.inference.tta import Edges, InferenceOptions, PixelEncoder
from clips4.method.calibration import SpaceCalibration
from clips4.method.prediction_context import PredictionContext
from clips4.models.calibrated_teacher import calibrated
from clips4.models.checkpoint import Checkpoint, Prototypes, load_checkpoint
from clips4.models.residual_student import ResidualStudent
from clips4.models.sliding_window import InferenceSize, inference_size
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.utils.devices import pick_device
from clips4.utils.image_input import ImageInput, ImageInputs, is_many

if TYPE_CHECKING:
    from clips4.inference.unknown.discovery import UnknownClass
    from clips4.utils.progress import ProgressReporter

Backend = Literal["torch", "onnx"]
Use = Literal["auto", "student", "teacher"]
_SPOILED = "by its quality report this run is no better than its teacher"


class Segmenter:
    """Segments images by class names.

    Created by ``Segmenter.load`` (a run) or ``Segmenter.from_teacher`` (no student). Safe to use from several threads,
    except for ``set_image``, whose image all threads share: pass images to ``segment`` there.

    Args:
        network: (B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D: a student, or a teacher's ``encode_pixels``.
        settings: of the teacher, which is loaded when a query has class names that are new to the run.
        size: larger images are reduced to it, or to this long side, before they are encoded.
        device: of the network.
        prototypes: of the run.
        teacher: if it is already loaded.
        refinement: of a teacher without a student.
        stride: pixels per position of the network's map; by default that of the network or the teacher.
        options: how images are encoded unless a call says otherwise.
        precision: see ``load``.
        context: of an image in the prediction of its pixels.

    Attributes:
        names: the classes of the run, which a query has by default; empty for a teacher.
        prototypes: of the run; None for a teacher.
        context: of an image in the prediction of its pixels.
        options: how images are encoded.
        classifier: finds class vectors for class names.
    """

    def __init__(
        self,
        network: PixelEncoder,
        settings: TeacherConfig,
        size: int | InferenceSize,
        device: torch.device,
        prototypes: Prototypes | None = None,
        teacher: Teacher | None = None,
        refinement: Refinement = Refinement(),  # noqa: B008  # frozen
        stride: int | None = None,
        options: InferenceOptions | None = None,
        precision: Precision = "auto",
        context: PredictionContext = PredictionContext(),  # noqa: B008  # frozen
    ):
        if refinement.key_smoothing and not hasattr(teacher, "encode_pixels_and_keys"):
            raise UserError(f"key smoothing: {settings.name} has no attention keys; choose a CLIP teacher")
        stride = stride or cast(int, getattr(network, "stride", teacher.patch_stride if teacher else 8))
        keyed = cast(KeyedEncoder, teacher) if refinement.key_smoothing else None
        self._encoder = Encoder(network, size, stride, device, precision, keyed)
        self._refinement, self._current = refinement, cast(EncodedImage | None, None)
        self.context = context
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
        use: Use = "auto",
    ) -> "Segmenter":
        """The student of a run, or its teacher where the run's quality report found the student spoiled.

        Args:
            run: folder that ``clips4 train`` wrote, one checkpoint of it, a hub id ``owner/name[@revision]``, or an
                ONNX file that ``clips4 export`` wrote.
            device: "auto", "cpu", "cuda", "mps".
            precision: of the network's arithmetic: "float32", "bfloat16" or "float16"; "auto" is bfloat16 on a GPU that
                supports it, else float32. Embeddings are float32 in any case.
            options: how images are encoded (scales, windows, edges); each call may override them.
            backend: "torch", or "onnx" for ONNX Runtime, which exports a run to the cache at its first use. ONNX files
                always run in ONNX Runtime.
            use: "student" or "teacher", each with its own prototypes; "auto" follows the quality report, with a warning
                where that is the teacher.

        Raises:
            UserError: no complete checkpoint, one that this backend cannot run, or a teacher that cannot be loaded.
        """
        from clips4.models.hub import fetch_run
        from clips4.models.onnx.runtime import is_exported, load_onnx

        if backend not in get_args(Backend):
            raise UserError(f"backend {backend!r}: choose one of {', '.join(get_args(Backend))}")
        if use not in get_args(Use):
            raise UserError(f"use {use!r}: choose one of {', '.join(get_args(Use))}")
        where = pick_device(device)
        if backend == "onnx" or is_exported(run):
            if precision not in ("auto", "float32"):
                raise UserError(f"precision {precision!r}: an ONNX file has a fixed precision; leave it out")
            network, exported = load_onnx(Path(run) if is_exported(run) else fetch_run(run), str(where))
            size, prototypes = inference_size(exported.config.data), exported.prototypes
            if use == "teacher":
                raise UserError(f"{run}: ONNX Runtime runs the student alone; leave out use='teacher'")
            if use == "auto" and exported.card.get("use") == "teacher":
                warnings.warn(f"{run}: {_SPOILED}; an ONNX file holds the student alone", stacklevel=2)
            return cls(
                network,
                exported.config.teacher,
                size,
                where,
                prototypes,
                options=options,
                precision="float32",
                context=_context_of(exported.config, prototypes.space),
            )
        checkpoint = load_checkpoint(fetch_run(run))
        if use == "teacher" or (use == "auto" and checkpoint.card.get("use") == "teacher"):
            try:
                segmenter = cls._by_teacher(checkpoint, where, precision, options)
            except UserError as error:
                if use == "teacher":
                    raise
                warnings.warn(f"{run}: {_SPOILED}, which cannot be loaded: {error}", stacklevel=2)
            else:
                if use == "auto":
                    warnings.warn(f"{run}: {_SPOILED}, which predicts; override: --use student", stacklevel=2)
                return segmenter
        config = checkpoint.config
        return cls(
            checkpoint.student.to(where),
            config.teacher,
            inference_size(config.data),
            where,
            checkpoint.prototypes,
            options=options,
            precision=precision,
            context=_context_of(config, checkpoint.prototypes.space),
        )

    @classmethod
    def _by_teacher(
        cls, checkpoint: Checkpoint, where: torch.device, precision: Precision, options: InferenceOptions | None
    ) -> "Segmenter":
        """The teacher of a run with its own prototypes: a residual student without its head, or the teacher itself."""
        config, prototypes = checkpoint.config, replace(checkpoint.prototypes, head_scale=0.0)
        context = _context_of(config, prototypes.space)
        if isinstance(checkpoint.student, ResidualStudent):
            student = checkpoint.student.to(where)
            student.head_scale = 0.0
            size = inference_size(config.data)
            return cls(
                student, config.teacher, size, where, prototypes, None, Refinement(), None, options, precision, context
            )
        teacher = calibrated(load_teacher(config.teacher).to(where), prototypes.space)
        encode, side = teacher.encode_pixels, config.data.long_side
        return cls(
            encode, config.teacher, side, where, prototypes, teacher, Refinement(), None, options, "float32", context
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
        use: Use = "auto",
    ) -> "Segmenter":
        """``load`` with the hub's usual arguments: a folder, or a hub id and a branch, tag or commit.

        Raises:
            UserError: see ``load`` and ``hub.fetch_run``.
        """
        from clips4.models.hub import fetch_run

        return cls.load(fetch_run(name, revision), device, precision, options, backend, use)

    @classmethod
    def from_teacher(
        cls,
        name: str,
        config: Config | None = None,
        device: str = "auto",
        refinement: Refinement = Refinement(),  # noqa: B008  # frozen
        options: InferenceOptions | None = None,
        space: SpaceCalibration | None = None,
    ) -> "Segmenter":
        """A teacher without a student: its pixel map is compared with text vectors.

        Args:
            name: see ``load_teacher``.
            config: the teacher's dense attention and templates, and the size of images.
            device: "auto", "cpu", "cuda", "mps".
            refinement: of its scores.
            options: how images are encoded.
            space: of a run whose vectors it is compared with; by default the teacher's raw space.

        Raises:
            UserError: an unknown teacher, or key smoothing with one that has no keys.
        """
        config = config or Config()
        where = pick_device(device)
        settings = config.teacher.model_copy(update={"name": name})
        teacher = calibrated(load_teacher(settings).to(where), space)
        return cls(
            teacher.encode_pixels,
            settings,
            config.data.long_side,
            where,
            teacher=teacher,
            refinement=refinement,
            options=options,
            precision="float32",  # a teacher has its own precision, teacher.precision
        )

    # ---------------------------------------------------------------------------------------------------- encoding

    def set_image(self, image: ImageInput, options: InferenceOptions | None = None) -> None:
        """Encode an image once, for any number of calls of ``segment``, ``embed`` and ``cluster`` without an image."""
        self._current = self.encode_image(image, options)

    @overload
    def embed(self, images: ImageInput | None = None, options: InferenceOptions | None = None) -> Tensor: ...

    @overload
    def embed(self, images: ImageInputs, options: InferenceOptions | None = None) -> list[Tensor]: ...

    def embed(
        self, images: ImageInput | ImageInputs | None = None, options: InferenceOptions | None = None
    ) -> Tensor | list[Tensor]:
        """Pixel embeddings: (D, h, w) unit along D for one image, a list of them for several."""
        if images is not None and is_many(images):
            return [each.z.clone() for each in self._encoder.encode_images(images, self._options(options))]
        return self._one(images, options).z.clone()

    def encode_image(self, image: ImageInput, options: InferenceOptions | None = None) -> EncodedImage:
        """Encode one image for any number of ``predict`` or ``classify``; the last ones are cached."""
        return self._encoder.encode_image(image, self._options(options))

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D, at the size given: for protocols that set it."""
        return self._encoder.encode(images)

    # -------------------------------------------------------------------------------------------------- predicting

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
        """Predict the class of every pixel of one or several images.

        Args:
            images: paths, PIL images, arrays or tensors (see ``as_rgb``); the one of ``set_image`` by default.
            classes: class names (see ``data.class_names.load_classes``); the run's classes by default.
            unknown: whether pixels nearest an unknown prototype become "unknown".
            vectors: "prototypes" for the prototypes of known classes (new class names find theirs in the run's bank of
                segments, or use their text vectors if it has none), or "text" for text vectors only.
            background: which pixels become "background": below a probability, 0.4; below a cosine, "cosine 0.2"; or
                nearest to one of some names, "wall, sky".
            options: how the images are encoded.

        Returns:
            A ``Segmentation`` for one image, a list of them for several.

        Raises:
            UserError: an unreadable image, invalid class names, or none for a teacher without a student.
        """
        query = self.query(classes, vectors, background)
        if images is not None and is_many(images):
            encoded = self._encoder.encode_images(images, self._options(options))
            return [self.predict(each, query, unknown, options) for each in encoded]
        return self.predict(self._one(images, options), query, unknown, options)

    def query(
        self,
        classes: Classes | None = None,
        vectors: Vectors = "prototypes",
        background: BackgroundRule | float | str | Sequence[str] | None = None,
    ) -> Query:
        """The class vectors that ``segment`` compares pixels with, for any number of ``predict``."""
        return self.classifier.query(classes, vectors, parse_background(background))

    def class_vectors(
        self, classes: Classes | None = None, vectors: Vectors = "prototypes"
    ) -> tuple[tuple[str, ...], Tensor]:
        """Class names and their (K, D) unit vectors."""
        query = self.query(classes, vectors)
        return query.names, query.vectors

    def predict(
        self, encoded: EncodedImage, query: Query, unknown: bool = True, options: InferenceOptions | None = None
    ) -> Segmentation:
        """``segment`` for an encoded image and a query."""
        others = query.vectors[:0]
        if unknown and self.prototypes:
            # raw space: fitted prototypes compete with fitted ones; text vectors with the unknown ones of training
            by_text = query.pixel_vectors is None and all(source == "text" for source in query.sources)
            others = self.prototypes.unknown if by_text else self.prototypes.query_unknown
        margin = self.prototypes.unknown_margin if self.prototypes else 0.0
        refine = self._options(options).refine
        return predict.predict(encoded, query, others, self._refinement, refine, margin, self.context)

    def classify(self, encoded: EncodedImage, vectors: Tensor, refine: Edges | None = None) -> tuple[Tensor, Tensor]:
        """The nearest of (L, D) given vectors for every pixel of an image; see ``predict.classify``."""
        return predict.classify(encoded, vectors, self._refinement, refine)

    # -------------------------------------------------------------------------------------------------- clustering

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
        """Segment without class names: spherical k-means of the pixel embeddings of all images together.

        Args:
            images: as for ``segment``.
            k: number of clusters.
            seed: of k-means.
            options: how the images are encoded.

        Returns:
            Results whose names are "cluster 1" to "cluster k", the same for all images; ``vectors`` are the centers.

        Raises:
            UserError: k is not positive, or larger than the number of pixel embeddings.
        """
        from clips4.inference.clustering import cluster_centers, cluster_query

        if images is not None and is_many(images):
            several = list(self._encoder.encode_images(images, self._options(options)))
            query = cluster_query(cluster_centers([each.z for each in several], k, seed))
            return [self.predict(each, query, unknown=False, options=options) for each in several]
        encoded = self._one(images, options)
        query = cluster_query(cluster_centers([encoded.z], k, seed))
        return self.predict(encoded, query, unknown=False, options=options)

    # --------------------------------------------------------------------------------------------- unknown classes

    def discover(
        self,
        images: ImageInput | ImageInputs,
        names: int = 5,
        examples: int = 4,
        progress: "ProgressReporter | None" = None,
    ) -> "list[UnknownClass]":
        """The unknown classes that training discovered, as they occur in images; see ``discovery.discover``."""
        from clips4.inference.unknown.discovery import discover

        return discover(self, images if is_many(images) else [images], names, examples, progress)

    def _options(self, options: InferenceOptions | None) -> InferenceOptions:
        return self.options if options is None else self._encoder.check(options)

    def _one(self, image: ImageInput | None, options: InferenceOptions | None) -> EncodedImage:
        if image is not None:
            return self.encode_image(image, options)
        if self._current is None:
            raise UserError("no image: pass one, or set one with set_image")
        return self._current


def _context_of(config: Config, space: SpaceCalibration | None) -> PredictionContext:
    """The run's ``extensions.prediction_context``, with the temperatures of its space."""
    tau, weight = config.objective.temperature, config.extensions.prediction_context
    if space is None:
        return PredictionContext(weight, tau, tau)
    return PredictionContext(weight, space.text_temperature(tau), space.pixel_temperature(tau))
