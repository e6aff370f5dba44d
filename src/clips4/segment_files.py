"""Segmenting files into files: what `clips4 segment` does."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from clips4.config import Config, parse_config
from clips4.data.folders import Skipped
from clips4.errors import UserError
from clips4.images import find_images
from clips4.listening import Listener
from clips4.outputs import output_stems, parse_kinds, save_segmentation
from clips4.segmenter import Segmenter, Vectors
from clips4.teachers.refinement import Refinement


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


def load_segmenter(
    arguments: Sequence[Path], teacher_only: str | None, device: str, options: TeacherOptions
) -> tuple[Segmenter, list[Path]]:
    """The segmenter and the pictures that the arguments RUN IMAGES... (or IMAGES... with a teacher alone) mean."""
    if teacher_only:
        images = find_images(arguments)
        config, refinement = options.settings()
        return Segmenter.from_teacher(teacher_only, config, device, refinement), images
    if options != TeacherOptions():
        raise UserError(
            "--reading, --templates, --key-smoothing, --prompt-denoising and --refine are for --teacher-only"
        )
    run, *pictures = arguments
    if not pictures:
        raise UserError(f"give a run and pictures: clips4 segment RUN IMAGES... (got only {run})")
    images = find_images(pictures)
    return Segmenter.load(run, device), images


def segment_files(
    segmenter: Segmenter,
    paths: Sequence[Path],
    out: Path,
    classes: str | None,
    save: str,
    vectors: str,
    unknown: bool,
    listener: Listener,
) -> tuple[list[Path], list[Skipped]]:
    """Segment each picture and write its files.

    Returns:
        The pictures done, and those skipped with the reason.

    Raises:
        UserError: wrong classes or kinds of output; a broken picture is skipped.
    """
    kinds = parse_kinds(save)
    names, matrix = segmenter.class_vectors(classes, cast(Vectors, vectors))
    done, skipped = [], []
    listener.stage("segmenting", len(paths))
    for path, stem in zip(paths, output_stems(paths), strict=True):
        try:
            result = segmenter.segment_by(path, names, matrix, unknown)
        except UserError as error:
            skipped.append(Skipped(path, str(error)))
        else:
            save_segmentation(result, str(path), out, stem, kinds)
            done.append(path)
        listener.advance({})
    return done, skipped
