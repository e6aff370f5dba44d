"""Segmenter: a trained student (or a teacher without one) that predicts the class of every pixel.

segmenter = Segmenter.load("runs/pets")
segmenter.set_image("photo.jpg")                    # encoded once
segmenter.segment(classes=["cat", "sofa"])          # any class names, any number of times, in milliseconds
segmenter.segment(classes=["cat", "sofa"], background="wall, floor")
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast, overload

import torch
from torch import Tensor

from clips4.config import Config, TeacherConfig
from clips4.errors import UserError
from clips4.inference import predict
from clips4.inference.classifier import Classes, Query, Vectors, ZeroShotClassifier
from clips4.inference.encoding.encoder import EncodedImage, Encoder, KeyedEncoder, Precision
from clips4.inference.encoding.image_encoder import ImageEncoder
from clips4.inference.encoding.tta import Edges, InferenceOptions, PixelEncoder
from clips4.inference.opening import Backend, Use, open_segmenter
from clips4.inference.refine.background import BackgroundRule, parse_background
from clips4.inference.refine.maskclip import Refinement
from clips4.inference.result import Segmentation
from clips4.method.calibration import SpaceCalibration
from clips4.method.prediction_context import PredictionContext
from clips4.models.backbones.proxy import Proxy
from clips4.models.calibrated_teacher import calibrated
from clips4.models.checkpoint import Prototypes
from clips4.models.pretrained import load_proxy
from clips4.models.residual_student import affinity_network
from clips4.models.sliding_window import InferenceSize
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.utils.devices import pick_device
from clips4.utils.image_input import ImageInput, ImageInputs, ImageStream, is_many
from clips4.utils.text import listing

if TYPE_CHECKING:
    from clips4.inference.unknown.discovery import UnknownClass
    from clips4.utils.progress import ProgressReporter

Background = BackgroundRule | float | str | Sequence[str] | None


class Segmenter(ImageEncoder):
    """Segments images by class names.

    Created by ``Segmenter.load`` (a run) or ``Segmenter.from_teacher`` (no student). Safe to use from several threads,
    except for ``set_image``, whose image all threads share: pass images to ``segment`` there. It can be pickled and
    copied; embeddings of earlier images and the text model of new class names are left out.

    An image is a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W), see ``utils.image_input.as_rgb``. Several
    images are a list, or a folder or generator, of which one image at a time is read.

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
        proxy: whose features make the graph of LPOSS; without one the embeddings do.

    Attributes:
        names: the classes of the run, which a query has by default; empty for a teacher.
        prototypes: of the run; None for a teacher.
        context: of an image in the prediction of its pixels.
        options: how images are encoded.
        classifier: finds class vectors for class names.
        refinement: of a teacher's scores.

    Example:
        >>> segmenter = Segmenter.load("runs/pets")
        >>> segmenter
        Segmenter(3 classes: cat, cup, grass; Embedder on cpu)
        >>> segmenter.segment("photo.jpg").labels.shape
        (72, 96)
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
        proxy: Proxy | None = None,
    ):
        if refinement.key_smoothing and not hasattr(teacher, "encode_pixels_and_keys"):
            raise UserError(f"key smoothing: {settings.name} has no attention keys; choose a CLIP teacher")
        stride = stride or cast(int, getattr(network, "stride", teacher.patch_stride if teacher else 8))
        keyed = cast(KeyedEncoder, teacher) if refinement.key_smoothing else None
        super().__init__(Encoder(network, size, stride, device, precision, keyed, proxy), options)
        self.refinement = refinement
        self.context, self._source = context, settings.name if prototypes is None else type(network).__name__
        self.classifier = ZeroShotClassifier(settings, prototypes, teacher)
        self.prototypes = prototypes
        self.names: tuple[str, ...] = prototypes.names if prototypes else ()

    def __repr__(self) -> str:
        known = f"{len(self.names)} classes: {listing(self.names)}; " if self.names else "teacher "
        return f"Segmenter({known}{self._source} on {self.device})"

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

        Returns:
            A segmenter of the run's classes.

        Raises:
            UserError: no complete checkpoint, one that this backend cannot run, or a teacher that cannot be loaded.

        Example:
            >>> Segmenter.load("runs/pets", device="cpu").names
            ('cat', 'cup', 'grass')
        """
        return open_segmenter(cls, run, device, precision, options, backend, use)

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

        Args:
            name: a folder, or ``owner/name``.
            revision: branch, tag or commit of the hub's repository.
            device: see ``load``, also for the other arguments.

        Returns:
            A segmenter of the run's classes.

        Raises:
            UserError: see ``load`` and ``hub.fetch_run``.

        Example:
            >>> Segmenter.from_pretrained("runs/pets").names
            ('cat', 'cup', 'grass')
        """
        from clips4.models.hub import fetch_run

        return cls.load(fetch_run(name, revision), device, precision, options, backend, use)

    @classmethod
    def from_teacher(
        cls,
        name: str | Path,
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

        Returns:
            A segmenter without classes of its own: each query names some.

        Raises:
            UserError: an unknown teacher or proxy, key smoothing with one that has no keys, or affinity with one whose
                network is not read for it.

        Example:
            >>> Segmenter.from_teacher("conse", device="cpu").segment("photo.jpg", ["cat", "sofa"]).names
            ('cat', 'sofa')
        """
        config = config or Config()
        where = pick_device(device)
        settings = config.teacher.model_copy(update={"name": str(name)})
        teacher = calibrated(load_teacher(settings).to(where), space)
        return cls(
            affinity_network(teacher).to(where) if refinement.affinity else teacher.encode_pixels,
            settings,
            config.data.long_side,
            where,
            teacher=teacher,
            refinement=refinement,
            options=options,
            precision="float32",  # a teacher has its own precision, teacher.precision
            proxy=_proxy_beside(teacher, settings.proxy, where),
        )

    # -------------------------------------------------------------------------------------------------- predicting

    @overload
    def segment(
        self,
        images: ImageInput | None = None,
        classes: Classes | None = None,
        unknown: bool = True,
        vectors: Vectors = "prototypes",
        background: Background = None,
        options: InferenceOptions | None = None,
    ) -> Segmentation: ...

    @overload
    def segment(
        self,
        images: ImageInputs,
        classes: Classes | None = None,
        unknown: bool = True,
        vectors: Vectors = "prototypes",
        background: Background = None,
        options: InferenceOptions | None = None,
    ) -> list[Segmentation]: ...

    @overload
    def segment(
        self,
        images: ImageStream,
        classes: Classes | None = None,
        unknown: bool = True,
        vectors: Vectors = "prototypes",
        background: Background = None,
        options: InferenceOptions | None = None,
    ) -> Iterator[Segmentation]: ...

    def segment(
        self,
        images: ImageInput | ImageInputs | ImageStream | None = None,
        classes: Classes | None = None,
        unknown: bool = True,
        vectors: Vectors = "prototypes",
        background: Background = None,
        options: InferenceOptions | None = None,
    ) -> Segmentation | list[Segmentation] | Iterator[Segmentation]:
        """Predict the class of every pixel of one or several images.

        Args:
            images: paths, PIL images, arrays or tensors (see ``as_rgb``); the one of ``set_image`` by default. A folder
                or a generator of images is read one image at a time.
            classes: class names (see ``data.class_names.load_classes``); the run's classes by default.
            unknown: whether pixels nearest an unknown prototype become "unknown".
            vectors: "prototypes" for the prototypes of known classes (new class names find theirs in the run's bank of
                segments, or use their text vectors if it has none), or "text" for text vectors only.
            background: which pixels become "background": below a probability, 0.4; below a cosine, "cosine 0.2"; or
                nearest to one of some names, "wall, sky".
            options: how the images are encoded.

        Returns:
            A ``Segmentation`` for one image, with labels (H, W) of the image's own size; a list of them for a list of
            images; for a folder or generator an iterator. ``next`` goes on after an image that cannot be read.

        Raises:
            UserError: an unreadable image, invalid class names, or none for a teacher without a student.

        Example:
            >>> segmenter.segment("photo.jpg", ["cat", "sofa"]).names
            ('cat', 'sofa')
            >>> for result in segmenter.segment("photos/"):
            ...     print(result.source, result.labels.shape)
            photos/photo0.png (72, 96)
            photos/photo1.png (72, 96)
            photos/photo2.png (72, 96)
        """
        query = self.query(classes, vectors, background)
        predicted = partial(self.predict, query=query, unknown=unknown, options=options)
        if (stream := self._stream(images)) is not None:
            # a chain of maps: unlike a generator, it can go on after an error
            return map(predicted, map(partial(self.encode_image, options=options), stream))
        if images is not None and is_many(images):
            return [predicted(each) for each in self.encode_images(images, options)]
        return predicted(self._one(cast(ImageInput | None, images), options))

    def query(
        self, classes: Classes | None = None, vectors: Vectors = "prototypes", background: Background = None
    ) -> Query:
        """The class vectors that ``segment`` compares pixels with, for any number of ``predict``.

        Args:
            classes: class names; the run's classes by default.
            vectors: see ``segment``.
            background: see ``segment``.

        Returns:
            Class vectors (L, D), the class (L,) of each, names (K,) and sources (K,).

        Raises:
            UserError: invalid class names, or none for a teacher without a student.

        Example:
            >>> segmenter.query(["cat", "cup"]).sources
            ('prototype', 'prototype')
        """
        return self.classifier.query(classes, vectors, parse_background(background))

    def class_vectors(
        self, classes: Classes | None = None, vectors: Vectors = "prototypes"
    ) -> tuple[tuple[str, ...], Tensor]:
        """Class names and their vectors.

        Args:
            classes: class names; the run's classes by default.
            vectors: see ``segment``.

        Returns:
            (K,) names and (K, D) unit rows. Of a run with ``prototypes.per_class=nearest`` a class has several rows,
            class by class; ``query`` has the class of each, too.

        Raises:
            UserError: see ``query``.

        Example:
            >>> names, rows = segmenter.class_vectors(["cat", "cup"])
            >>> names, len(rows)
            (('cat', 'cup'), 2)
        """
        query = self.query(classes, vectors)
        return query.names, query.vectors

    def with_refinement(self, refine: Edges) -> "Segmenter":
        """The same network and classes, whose predictions are refined unless a call says otherwise.

        Args:
            refine: see ``InferenceOptions``.

        Returns:
            A segmenter that shares this one's network and cache.

        Example:
            >>> segmenter.with_refinement("lposs").options.refine
            'lposs'
        """
        other = copy(self)
        other.options = replace(self.options, refine=refine)
        return other

    def predict(
        self, encoded: EncodedImage, query: Query, unknown: bool = True, options: InferenceOptions | None = None
    ) -> Segmentation:
        """``segment`` for an encoded image and a query.

        Args:
            encoded: of ``encode_image``.
            query: of ``query``.
            unknown: whether pixels nearest an unknown prototype become "unknown".
            options: whose ``refine`` counts.

        Returns:
            The prediction, with labels (H, W).

        Example:
            >>> segmenter.predict(segmenter.encode_image("photo.jpg"), segmenter.query(["cat", "cup"])).names
            ('cat', 'cup')
        """
        others = query.vectors[:0]
        if unknown and self.prototypes:
            # raw space: fitted prototypes compete with fitted ones; text vectors with the unknown ones of training
            by_text = query.pixel_vectors is None and all(source == "text" for source in query.sources)
            others = self.prototypes.unknown if by_text else self.prototypes.query_unknown
        margin = self.prototypes.unknown_margin if self.prototypes else 0.0
        refine = self._options(options).refine
        features = self.graph_features(encoded) if refine == "lposs" else None
        return predict.predict(encoded, query, others, self.refinement, refine, margin, self.context, features)

    def classify(self, encoded: EncodedImage, vectors: Tensor, refine: Edges | None = None) -> tuple[Tensor, Tensor]:
        """The nearest of given vectors for every pixel of an image; see ``predict.classify``.

        Args:
            encoded: of ``encode_image``.
            vectors: (L, D) unit rows.
            refine: see ``InferenceOptions``.

        Returns:
            (H, W) int64 labels 0..L-1, and (H, W) cosines.

        Example:
            >>> labels, cosines = segmenter.classify(segmenter.encode_image("photo.jpg"), segmenter.query().vectors)
            >>> labels.shape
            torch.Size([72, 96])
        """
        features = self.graph_features(encoded) if refine == "lposs" else None
        return predict.classify(encoded, vectors, self.refinement, refine, graph_features=features)

    # -------------------------------------------------------------------------------------------------- clustering

    @overload
    def cluster(
        self, images: ImageInput | None = None, k: int = 8, seed: int = 0, options: InferenceOptions | None = None
    ) -> Segmentation: ...

    @overload
    def cluster(
        self, images: ImageInputs | ImageStream, k: int = 8, seed: int = 0, options: InferenceOptions | None = None
    ) -> list[Segmentation]: ...

    def cluster(
        self,
        images: ImageInput | ImageInputs | ImageStream | None = None,
        k: int = 8,
        seed: int = 0,
        options: InferenceOptions | None = None,
    ) -> Segmentation | list[Segmentation]:
        """Segment without class names: spherical k-means of the pixel embeddings of all images together.

        Args:
            images: as for ``segment``; all images of a folder or generator are kept in memory.
            k: number of clusters.
            seed: of k-means.
            options: how the images are encoded.

        Returns:
            Results whose names are "cluster 1" to "cluster k", the same for all images; ``vectors`` are the centers.

        Raises:
            UserError: k is not positive, or larger than the number of pixel embeddings.

        Examples:
            >>> [result.names for result in segmenter.cluster("photos/", k=2)][0]
            ('cluster 1', 'cluster 2')
        """
        from clips4.inference.clustering import cluster_centers, cluster_query

        if (stream := self._stream(images)) is not None:
            images = list(stream)
        if images is not None and is_many(images):
            several = list(self.encode_images(images, options))
            query = cluster_query(cluster_centers([each.z for each in several], k, seed))
            return [self.predict(each, query, unknown=False, options=options) for each in several]
        encoded = self._one(cast(ImageInput | None, images), options)
        query = cluster_query(cluster_centers([encoded.z], k, seed))
        return self.predict(encoded, query, unknown=False, options=options)

    # --------------------------------------------------------------------------------------------- unknown classes

    def discover(
        self,
        images: ImageInput | ImageInputs | ImageStream,
        names: int = 5,
        examples: int = 4,
        progress: "ProgressReporter | None" = None,
    ) -> "list[UnknownClass]":
        """The unknown classes that training discovered, as they occur in images; see ``discovery.discover``.

        Args:
            images: as for ``segment``.
            names: suggestions for each class.
            examples: places of each class, at most one per image.
            progress: advances by image.

        Returns:
            Those that occur, largest first.

        Raises:
            UserError: the segmenter has no unknown prototypes, or no image can be read.

        Example:
            >>> len(segmenter.discover("photos/", names=0)) <= 2  # the run has two unknown prototypes
            True
        """
        from clips4.inference.unknown.discovery import discover

        if (stream := self._stream(images)) is not None:
            images = list(stream)
        several = images if is_many(images) else [images]
        return discover(self, cast(Sequence[ImageInput], several), names, examples, progress)


def _proxy_beside(teacher: Teacher, weights: str | None, device: torch.device) -> Proxy | None:
    """The proxy that a teacher has for its attention, or else one that is loaded for LPOSS alone."""
    own: Proxy | None = getattr(teacher, "proxy", None)
    return own if own is not None or not weights else load_proxy(weights).to(device)
