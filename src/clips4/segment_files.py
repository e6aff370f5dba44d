"""Segmenting files into files: what `clips4 segment` does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from clips4.answer_folders import Outcome, answer_pictures
from clips4.answers import Answer
from clips4.caching import content_key, settings_key
from clips4.checkpoints import CARD, checkpoint_folders
from clips4.config import Config, parse_config
from clips4.errors import UserError
from clips4.images import find_images
from clips4.listening import Listener
from clips4.outputs import parse_kinds
from clips4.segmenter import Segmenter, Vectors
from clips4.teachers.refinement import Refinement

_FORMAT = 1  # of all outputs; another number has everything done again


class TeacherOptions(NamedTuple):
    """What the command line says of a teacher alone."""

    reading: str | None = None
    templates: str | None = None
    key_smoothing: bool = False
    prompt_denoising: bool = False
    refine: str | None = None

    def settings(self) -> tuple[Config, Refinement]:
        """As configuration and refinement.

        Raises:
            UserError: an unknown reading or refinement.
        """
        if self.refine not in (None, "pamr"):
            raise UserError(f"--refine {self.refine!r}: there is only pamr")
        given = {"reading": self.reading, "templates": self.templates}
        teacher = {key: value for key, value in given.items() if value is not None}
        refinement = Refinement(self.prompt_denoising, self.key_smoothing, self.refine == "pamr")
        return parse_config({"teacher": teacher}, "command line"), refinement


class Loaded(NamedTuple):
    """A segmenter, the pictures it is to answer for, and by what its answers are known."""

    segmenter: Segmenter
    images: list[Path]
    identity: dict[str, Any]


def load_segmenter(arguments: Sequence[Path], teacher_only: str | None, device: str, options: TeacherOptions) -> Loaded:
    """The segmenter and the pictures that the arguments RUN IMAGES... (or IMAGES... with a teacher alone) mean."""
    if teacher_only:
        images = find_images(arguments)
        config, refinement = options.settings()
        identity = {"teacher": teacher_only, **options._asdict()}
        return Loaded(Segmenter.from_teacher(teacher_only, config, device, refinement), images, identity)
    if options != TeacherOptions():
        raise UserError(
            "--reading, --templates, --key-smoothing, --prompt-denoising and --refine are for --teacher-only"
        )
    run, *pictures = arguments
    if not pictures:
        raise UserError(f"give a run and pictures: clips4 segment RUN IMAGES... (got only {run})")
    images = find_images(pictures)
    return Loaded(Segmenter.load(run, device), images, run_identity(run))


def run_identity(run: Path) -> dict[str, Any]:
    """What tells a run's newest checkpoint from any other, wherever it lies: its card, which has digests of its files.

    What is no folder of a run is known by its name.
    """
    folders = [run] if (run / CARD).is_file() else checkpoint_folders(run)
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
    force: bool,
    listener: Listener,
) -> Outcome:
    """Segment each picture and write its files, then those of the whole folder; what is done is not done again.

    Raises:
        UserError: wrong classes or kinds of output; a broken picture is skipped.
    """
    segmenter, kinds = loaded.segmenter, parse_kinds(save)
    names, matrix = segmenter.class_vectors(classes, cast(Vectors, vectors))

    def answer(path: Path, stem: str) -> Answer:
        result = segmenter.segment_by(path, names, matrix, unknown)
        return Answer(result, path, stem, matrix, segmenter.embed(path) if "npz" in kinds else None)

    made_by = settings_key(
        {
            "format": _FORMAT,
            **loaded.identity,
            "names": names,
            "vectors": content_key(matrix.float().cpu().numpy().tobytes()),
            "unknown": unknown,
        }
    )
    return answer_pictures(loaded.images, out, kinds, names, made_by, answer, force, listener)
