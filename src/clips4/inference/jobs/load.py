"""From the command line's arguments to a segmenter, its images and videos, and what identifies it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from clips4.config import Config, parse_config, with_overrides
from clips4.data.image_folder import drop_outputs, find_images
from clips4.data.image_source import find_training_images
from clips4.data.shards.files import is_shard
from clips4.data.shards.tables import find_tables
from clips4.errors import UserError
from clips4.inference.encoding.tta import Edges, InferenceOptions
from clips4.inference.opening import Use
from clips4.inference.refine.maskclip import Refinement
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import CARD, checkpoints_at
from clips4.utils.cache import content_key
from clips4.utils.images import range_settings
from clips4.utils.video import is_video


class TeacherOptions(NamedTuple):
    """The command line's options for a teacher without a student."""

    dense_attention: str | None = None
    templates: str | None = None
    key_smoothing: bool = False
    prompt_denoising: bool = False
    affinity: bool = False
    overrides: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """For a settings hash, under the key names of all output folders so far."""
        values = {key: value for key, value in self._asdict().items() if value or key not in ("affinity", "overrides")}
        return {"reading": values.pop("dense_attention"), **values}

    def settings(self) -> tuple[Config, Refinement]:
        """As configuration and refinement.

        Raises:
            UserError: an unknown setting or dense attention, or refinements that exclude each other.
        """
        given = {"dense_attention": self.dense_attention, "templates": self.templates}
        teacher = {key: value for key, value in given.items() if value is not None}
        config = with_overrides(parse_config({"teacher": teacher}, "command line"), self.overrides)
        return config, Refinement(self.prompt_denoising, self.key_smoothing, affinity=self.affinity)


def parse_inference_options(
    scales: str = "1", flip: bool = False, window: int | None = None, overlap: float = 0.5, refine: str | None = None
) -> InferenceOptions:
    """How images are encoded, from the command line's options.

    Raises:
        UserError: not numbers, or out of range.
    """
    try:
        sizes = tuple(float(scale) for scale in scales.split(","))
    except ValueError:
        raise UserError(f"--scales {scales!r}: give factors separated by commas, e.g. 1,2")
    return InferenceOptions(sizes, flip, window, overlap, cast(Edges | None, refine))


class Loaded(NamedTuple):
    """A segmenter, the images and videos to segment, and what identifies the segmenter in a settings hash.

    ``inputs`` are the folders and files in which they were found.
    """

    segmenter: Segmenter
    images: list[Path]
    identity: dict[str, Any]
    inputs: Sequence[Path]
    videos: list[Path] = []  # noqa: RUF012  # never changed


def load_segmenter(
    arguments: Sequence[Path],
    teacher_only: str | None,
    device: str,
    teacher: TeacherOptions,
    options: InferenceOptions | None = None,
    use: str = "auto",
) -> Loaded:
    """The segmenter and the inputs named by RUN IMAGES..., or by IMAGES... for a teacher without a student.

    Raises:
        UserError: no such run, teacher or image, or teacher options with a run.
    """
    if teacher_only:
        if use != "auto":
            raise UserError("--use chooses between a run's student and its teacher; leave it out with --teacher-only")
        images, videos = _images_and_videos(arguments)
        config, refinement = teacher.settings()
        identity = {"teacher": teacher_only, **teacher.identity(), **range_settings()}
        segmenter = Segmenter.from_teacher(teacher_only, config, device, refinement, options)
        return Loaded(segmenter, images, identity, arguments, videos)
    if teacher != TeacherOptions():
        raise UserError(
            "--dense-attention, --templates, --key-smoothing, --prompt-denoising, --affinity and --set are for "
            "--teacher-only"
        )
    run, *inputs = arguments
    if not inputs:
        raise UserError(f"give a run and images: clips4 segment RUN IMAGES... (got only {run})")
    images, videos = _images_and_videos(inputs)
    segmenter = Segmenter.load(run, device, options=options, use=cast(Use, use))
    identity = run_identity(run) | range_settings() | ({"use": use} if use != "auto" else {})
    return Loaded(segmenter, images, identity, inputs, videos)


def load_page_segmenter(
    arguments: Sequence[Path], teacher_only: str | None, device: str, use: str
) -> tuple[Segmenter, Path | None, list[Path]]:
    """The segmenter, the run (None for a teacher alone) and the images named by RUN [IMAGES].

    Raises:
        UserError: see ``load_segmenter``.
    """
    if teacher_only:
        if use != "auto":
            raise UserError("--use chooses between a run's student and its teacher; leave it out with --teacher-only")
        return Segmenter.from_teacher(teacher_only, None, device), None, find_images(arguments) if arguments else []
    if not arguments:
        raise UserError("give a run: clips4 serve RUN [IMAGES]; or --teacher-only NAME")
    run, *inputs = arguments
    images = find_images(inputs) if inputs else []
    return Segmenter.load(run, device, use=cast(Use, use)), run, images


def _images_and_videos(inputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Images as ``find_images`` finds them, or shards alone; and the video files among the inputs themselves."""
    if any(is_shard(path) or find_tables(path) for path in inputs):
        return find_training_images(inputs), []
    videos = [path for path in inputs if is_video(path)]
    others = [path for path in inputs if path not in videos]
    return (find_images(others) if others or not videos else []), drop_outputs(videos)


def run_identity(run: Path) -> dict[str, Any]:
    """What distinguishes a run's newest checkpoint from any other, wherever it is.

    A folder is known by the card of its checkpoint, which has digests of its files; a hub id or ONNX file by its name.
    """
    folders = checkpoints_at(run)
    if not folders:
        return {"run": str(run)}
    return {"checkpoint": content_key((folders[-1] / CARD).read_bytes())}
