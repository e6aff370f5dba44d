"""Callbacks of training: sample images, and scores on a labeled set."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from clips4.config import Config
from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.image_source import ImageFiles
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.data.shards.files import is_shard
from clips4.errors import UserError
from clips4.evaluation.open_vocabulary import score_language
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import Prototypes
from clips4.models.sliding_window import inference_size
from clips4.models.student import Embedder
from clips4.outputs.charts import pca_colors
from clips4.outputs.render import overlay
from clips4.training.loop import Callback
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import RGB, encode_jpeg
from clips4.utils.output_folder.output import Output

SAMPLES = "samples"
_SHOWN = 4
_TILE = 320, 240  # pixels, width and height of one image on the sheet


def open_labeled(place: str, config: Config) -> LabeledFolder:
    """The labeled set of ``NAME=DIR``.

    Raises:
        UserError: not of this form, no such set, one with a background class, or ``eval_every`` is 0.
    """
    name, equals, root = place.partition("=")
    if not equals:
        raise UserError(f"--validate {place!r}: write NAME=DIR, e.g. coco128=data/coco128")
    spec = semantic_spec(name)
    if spec.background:
        raise UserError(f"--validate {place!r}: this set has a background class; score it with clips4 evaluate")
    if not config.train.eval_every:
        raise UserError("--validate: train.eval_every=0 never scores; set how often, e.g. --set train.eval_every=100")
    return spec.load(Path(root))


def make_callback(
    images: Sequence[Path], config: Config, run: Path, labeled: LabeledFolder | None = None
) -> Callback | None:
    """The callback of a run: sample images if it trains on files, scores if a labeled set is given."""
    if not config.train.eval_every:
        return None
    callbacks: list[Callback] = [LabeledScores(labeled, config)] if labeled else []
    shown = [path for path in images if not is_shard(path)]
    return all_of([*callbacks, SampleImages(run, shown, config)] if shown else callbacks)


def all_of(callbacks: Sequence[Callback]) -> Callback:
    """One callback that calls several."""

    def call_all(step: int, student: Embedder, prototypes: Prototypes) -> dict[str, float]:
        return {name: value for w in callbacks for name, value in w(step, student, prototypes).items()}

    return call_all


class SampleImages:
    """Writes ``RUN/samples/step-XXXXXXXX.jpg``: image, embedding by its principal components, prediction, row by row.

    Args:
        run: folder of the run.
        paths: the first that can be read are shown.
        config: of the run.
    """

    def __init__(self, run: Path, paths: Sequence[Path], config: Config):
        self._run, self._paths, self._config = run, paths, config

    def __call__(self, step: int, student: Embedder, prototypes: Prototypes) -> dict[str, float]:
        segmenter = _segmenter(student, prototypes, self._config)
        source = ImageFiles(self._paths).iterate(self._config.data.long_side, 0, 1)
        images = list(islice((each.image for each in source if not isinstance(each.image, str)), _SHOWN))
        if not images:
            return {}
        results = [segmenter.segment(image) for image in images]
        components = pca_colors([segmenter.embed(image).cpu().numpy() for image in images])
        rows = [
            np.concatenate([_tile(image) for image in (result.image, shown, overlay(result))], 1)
            for result, shown in zip(results, components, strict=True)
        ]
        Output(self._run, "train", [], "").record_own([f"{SAMPLES}/"])  # sheets are never taken as images
        write_atomically(self._run / SAMPLES / f"step-{step:08d}.jpg", encode_jpeg(np.concatenate(rows)))
        return {}


class LabeledScores:
    """Scores the student by prototypes on a labeled set, protocol ``clips4-v1``: ``miou`` and ``pixel_accuracy``.

    Args:
        dataset: images and truth; its classes are those of the run.
        config: of the run.
    """

    def __init__(self, dataset: LabeledFolder, config: Config):
        self._dataset, self._config = dataset, config

    def __call__(self, step: int, student: Embedder, prototypes: Prototypes) -> dict[str, float]:
        segmenter = _segmenter(student, prototypes, self._config)
        query = segmenter.query(self._dataset.classes)
        scores = score_language(segmenter, self._dataset, {"prototypes": query})["prototypes"]
        return {"miou": scores.miou_present, "pixel_accuracy": scores.pixel_accuracy}


def _segmenter(student: Embedder, prototypes: Prototypes, config: Config) -> Segmenter:
    device = next(student.parameters()).device
    return Segmenter(student, config.teacher, inference_size(config.data), device, prototypes)


def _tile(image: RGB) -> RGB:
    """The image fitted into a tile, on gray."""
    picture = Image.fromarray(image)
    factor = min(_TILE[0] / picture.width, _TILE[1] / picture.height)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    tile = Image.new("RGB", _TILE, (128, 128, 128))
    tile.paste(picture.resize(size, Image.Resampling.BICUBIC), ((_TILE[0] - size[0]) // 2, (_TILE[1] - size[1]) // 2))
    return np.asarray(tile)
