"""Images of a folder: loading them for training, and what became of them in a job."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from clips4.errors import UserError
from clips4.utils.images import RGB, load_rgb, reduce_to

MIN_SIDE = 32  # pixels; smaller images have no useful crop


class SkippedImage(NamedTuple):
    """An image that could not be used, and why."""

    path: Path
    reason: str


@dataclass
class JobOutcome:
    """What became of the images of a job.

    Attributes:
        done: those worked on.
        kept: those done before with the same settings.
        skipped: those that could not be used, with the reason.
        interrupted: whether Ctrl-C came before the last image.
    """

    done: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    skipped: list[SkippedImage] = field(default_factory=list)
    interrupted: bool = False

    def joined(self, other: "JobOutcome") -> "JobOutcome":
        """What became of these images and of others."""
        return JobOutcome(
            self.done + other.done,
            self.kept + other.kept,
            self.skipped + other.skipped,
            self.interrupted or other.interrupted,
        )


def load_training_image(path: Path, long_side: int) -> RGB:
    """Load an image for training, scaled down to ``long_side``.

    Raises:
        UserError: the image cannot be read, or a side is shorter than ``MIN_SIDE``.
    """
    return fit_training_image(load_rgb(path), long_side, str(path))


def fit_training_image(image: RGB, long_side: int, name: str) -> RGB:
    """Scale a decoded image (H, W, 3) down to ``long_side`` for training; see ``load_training_image``."""
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise UserError(f"{name}: {width} x {height} pixels are too few to train on; give at least {MIN_SIDE} a side")
    image = reduce_to(image, long_side)
    if min(image.shape[:2]) < MIN_SIDE:
        raise UserError(f"{name}: {width} x {height} pixels are too narrow to train on; crop it")
    return image
