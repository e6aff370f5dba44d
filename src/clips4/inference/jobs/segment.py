"""Segmenting files into files: what `clips4 segment` does."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

from clips4.config import Config, parse_config
from clips4.data.image_folder import JobOutcome
from clips4.errors import UserError
from clips4.inference.classifier import Query, Vectors
from clips4.inference.jobs.folder import predict_folder
from clips4.inference.jobs.video import check_kinds, segment_videos
from clips4.inference.refine.maskclip import Refinement
from clips4.inference.segmenter import Segmenter
from clips4.inference.tta import Edges, InferenceOptions
from clips4.inference.video.temporal_smoothing import Steadiness
from clips4.models.checkpoint import CARD, checkpoints_at
from clips4.outputs.encode import ImagePrediction
from clips4.outputs.render import output_stems, parse_kinds
from clips4.utils.cache import content_key, settings_key
from clips4.utils.images import find_images
from clips4.utils.progress import ProgressReporter
from clips4.utils.video import is_video

_FORMAT = 1  # of all outputs; another number has everything done again


class TeacherOptions(NamedTuple):
    """What the command line says of a teacher alone."""

    reading: str | None = None
    templates: str | None = None
    key_smoothing: bool = False
    prompt_denoising: bool = False

    def settings(self) -> tuple[Config, Refinement]:
        """As configuration and refinement.

        Raises:
            UserError: an unknown reading.
        """
        given = {"reading": self.reading, "templates": self.templates}
        teacher = {key: value for key, value in given.items() if value is not None}
        return parse_config({"teacher": teacher}, "command line"), Refinement(self.prompt_denoising, self.key_smoothing)


def parse_inference_options(
    scales: str = "1", flip: bool = False, window: int | None = None, overlap: float = 0.5, refine: str | None = None
) -> InferenceOptions:
    """How pictures are read, from what the command line says.

    Raises:
        UserError: not numbers, or out of range.
    """
    try:
        sizes = tuple(float(scale) for scale in scales.split(","))
    except ValueError:
        raise UserError(f"--scales {scales!r}: give factors parted by commas, e.g. 1,2")
    return InferenceOptions(sizes, flip, window, overlap, cast(Edges | None, refine))


class Loaded(NamedTuple):
    """A segmenter, the pictures and videos it is to answer for, and by what its answers are known."""

    segmenter: Segmenter
    images: list[Path]
    identity: dict[str, Any]
    videos: list[Path] = []  # noqa: RUF012  # never changed


def load_segmenter(
    arguments: Sequence[Path],
    teacher_only: str | None,
    device: str,
    options: TeacherOptions,
    reading: InferenceOptions | None = None,
) -> Loaded:
    """The segmenter and the pictures that the arguments RUN IMAGES... (or IMAGES... with a teacher alone) mean."""
    if teacher_only:
        images, videos = _images_and_videos(arguments)
        config, refinement = options.settings()
        identity = {"teacher": teacher_only, **options._asdict()}
        segmenter = Segmenter.from_teacher(teacher_only, config, device, refinement, reading)
        return Loaded(segmenter, images, identity, videos)
    if options != TeacherOptions():
        raise UserError("--reading, --templates, --key-smoothing and --prompt-denoising are for --teacher-only")
    run, *pictures = arguments
    if not pictures:
        raise UserError(f"give a run and pictures: clips4 segment RUN IMAGES... (got only {run})")
    images, videos = _images_and_videos(pictures)
    return Loaded(Segmenter.load(run, device, options=reading), images, run_identity(run), videos)


def _images_and_videos(inputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Pictures as ``find_images`` finds them, and the video files among the inputs themselves."""
    videos = [path for path in inputs if is_video(path)]
    others = [path for path in inputs if path not in videos]
    return (find_images(others) if others or not videos else []), videos


def run_identity(run: Path) -> dict[str, Any]:
    """What tells a run's newest checkpoint from any other, wherever it lies: its card, which has digests of its files.

    What is no folder of a run is known by its name.
    """
    folders = checkpoints_at(run)
    if not folders:
        return {"run": str(run)}
    return {"checkpoint": content_key((folders[-1] / CARD).read_bytes())}


def segment_files(
    loaded: Loaded,
    out: Path,
    classes: str | None,
    save: str,
    vectors: str,
    unknown: bool,
    background: str | None,
    steadiness: Steadiness,
    force: bool,
    progress: ProgressReporter,
) -> JobOutcome:
    """Segment each picture and write its files, then those of the whole folder; then each video. What is done is not
    done again.

    Raises:
        UserError: wrong classes or kinds of output; a broken picture or video is skipped.
    """
    segmenter, kinds = loaded.segmenter, parse_kinds(save)
    if loaded.videos:
        check_kinds(kinds)
    query = segmenter.query(classes, cast(Vectors, vectors), background)

    def answer(path: Path, stem: str) -> ImagePrediction:
        return ImagePrediction(segmenter.answer(segmenter.read(path), query, unknown), path, stem)

    settings = {**loaded.identity, **_asked(segmenter, query, unknown)}
    settings_hash = settings_key(settings)
    outcome = predict_folder(loaded.images, out, kinds, query.names, settings_hash, answer, force, progress)
    if loaded.videos and not outcome.interrupted:
        stems = output_stems([*loaded.images, *loaded.videos])[len(loaded.images) :]
        steadily = settings_key({**settings, "steadiness": asdict(steadiness)})
        more = segment_videos(
            segmenter,
            query,
            list(zip(loaded.videos, stems, strict=True)),
            out,
            kinds,
            unknown,
            steadiness,
            steadily,
            force,
            progress,
        )
        outcome = outcome.joined(more)
    return outcome


def _asked(segmenter: Segmenter, query: Query, unknown: bool) -> dict[str, Any]:
    """All that answers depend on beside the network."""
    rule = query.background
    return {
        "format": _FORMAT,
        "names": query.names,
        "owner": query.owner.tolist(),
        "vectors": content_key(query.vectors.float().cpu().numpy().tobytes()),
        "background": rule and {"words": rule.names, "probability": rule.probability, "cosine": rule.cosine},
        "unknown": unknown,
        "reading": asdict(segmenter.options),
    }
