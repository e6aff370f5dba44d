"""The quality report of a run, from unlabeled images that were kept out of training: figures, sound ranges, verdicts.

    RUN/quality.json    the figures below, each with its sound range and whether it lies in it

Ranges were measured with the built-in teacher on small jobs (12 to 142 images, 3 to 17 names; issue 27, research r2):

    agreement    .48 to .85 in 24 sound runs; .43 where the learning rate was ten times too high, .40 with 5 images
    names_fit    at most .0082 for 19 of 20 jobs with true names; above .0085 for 18 of 20 with names that fit nothing
    images       5 images spoil a run; the smallest sound job had 12

There the teacher read each image at 512 and 768, in a calibrated space, and one job was spoiled per line above but for
names. Agreement of two views did not separate sound runs from spoiled ones; for unknown, classes never predicted and
classes that swallow everything no range was measured. They are reported and have no verdict. No figure without labels
says that a student is *better* than its teacher (24 jobs, rank correlations with the gain between -.37 and .09).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from clips4.utils.atomic_io import write_atomically

FILE = "quality.json"
MIN_AGREEMENT = 0.47
MAX_NAMES_FIT = 0.0085
MIN_IMAGES = 8
_FEWEST, _MOST, _FROM = 2, 32, 10  # held-out images, and the smallest set that can spare any
_NEVER, _SWALLOWS = 0.001, 0.8  # share of all named pixels of a class
_BEST_SHARE, _BEST_AT_LEAST = 50, 8  # a name's best positions: one in 50, at least 8


@dataclass(frozen=True)
class Quality:
    """What is known of a run without labels.

    Attributes:
        images: number of training images.
        held_out: number of images the figures were measured on.
        agreement: share of pixels where student and teacher predict the same class.
        view_agreement: share of pixels whose class is the same in a mirrored view of another size.
        unknown: share of unknown pixels.
        names_fit: median share of the vocabulary that fits a name's best positions better than the name.
        never: classes predicted almost nowhere.
        swallowing: classes predicted nearly everywhere.

    Figures are None where they were not measured: without held-out images, or of a student that has no such answer.
    """

    images: int
    held_out: int = 0
    agreement: float | None = None
    view_agreement: float | None = None
    unknown: float | None = None
    names_fit: float | None = None
    never: tuple[str, ...] = ()
    swallowing: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything outside its sound range, one sentence each."""
        found = []
        if self.images < MIN_IMAGES:
            found.append(f"only {self.images} training images; give at least {MIN_IMAGES}")
        if self.agreement is not None and self.agreement < MIN_AGREEMENT:
            found.append(
                f"the student agrees with its teacher on {self.agreement:.0%} of pixels; sound runs reach 48 %"
            )
        if self.names_fit is not None and self.names_fit > MAX_NAMES_FIT:
            found.append("the names fit hardly anything in the images; check --classes")
        return tuple(found)

    @property
    def use_teacher(self) -> bool:
        """Whether predictions are the teacher's: the student is spoiled. Wrong names spoil both alike."""
        return self.images < MIN_IMAGES or (self.agreement is not None and self.agreement < MIN_AGREEMENT)

    def line(self) -> str:
        """One line for the terminal."""
        if self.problems:
            answer = " Predictions use the teacher." if self.use_teacher else ""
            return f"Quality: {'; '.join(self.problems)}.{answer}"
        if self.agreement is None:
            return f"Quality: not measured; {self.images} images are too few to keep some out of training."
        return f"Quality: sound on {self.held_out} held-out images; agreement with the teacher {self.agreement:.0%}."

    def to_json(self) -> str:
        """The text of ``quality.json``."""
        ranges = {"images": [MIN_IMAGES, None], "agreement": [MIN_AGREEMENT, None], "names_fit": [None, MAX_NAMES_FIT]}
        summary = {"sound_ranges": ranges, "problems": self.problems, "use_teacher": self.use_teacher}
        return json.dumps({**asdict(self), **summary}, indent=2) + "\n"


def write_quality(run: Path, quality: Quality) -> None:
    """Write ``RUN/quality.json``."""
    write_atomically(run / FILE, quality.to_json().encode())


def held_out(usable: Sequence[int], share: float) -> tuple[int, ...]:
    """Numbers of the images that are kept out of training, evenly spaced; a function of its arguments alone.

    Args:
        usable: numbers of the usable images, increasing.
        share: of them, in [0, 1]; 0 keeps none out.

    Returns:
        ``share`` of them, at least 2 and at most 32; none of fewer than 10 images.

    Example:
        >>> held_out(range(20), 0.1)
        (5, 15)
    """
    if not share or len(usable) < _FROM:
        return ()
    count = min(max(round(share * len(usable)), _FEWEST), _MOST, len(usable) - 1)
    return tuple(usable[(2 * i + 1) * len(usable) // (2 * count)] for i in range(count))


@torch.no_grad()
def agreement(student: Tensor, teacher: Tensor) -> float:
    """Share of equal labels, of two label maps of the same shape.

    Raises:
        ValueError: other shapes, or no pixel.
    """
    if student.shape != teacher.shape or not student.numel():
        raise ValueError(f"label maps of the same shape expected, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    return float((student == teacher).double().mean())


@torch.no_grad()
def mirrored_agreement(labels: Tensor, of_mirrored: Tensor) -> float:
    """Share of positions whose class is the same in the mirrored view.

    Args:
        labels: (h, w) of the image.
        of_mirrored: (h', w') of the image mirrored left to right, at any size; brought to (h, w) by nearest position.
    """
    back = of_mirrored.flip(-1)
    rows, columns = (
        ((torch.arange(n, device=back.device) + 0.5) * have / n).long()
        for n, have in zip(labels.shape, back.shape, strict=True)
    )
    return agreement(labels, back[rows][:, columns])


@torch.no_grad()
def class_extremes(counts: Tensor, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes predicted almost nowhere, and those that swallow everything.

    Args:
        counts: (K,) pixels of each class.
        names: K names.

    Returns:
        Names below .1 % and above 80 % of all named pixels; a single class swallows nothing.
    """
    shares = (counts.double() / counts.double().sum().clamp(min=1)).tolist()
    never = tuple(name for name, share in zip(names, shares, strict=True) if share < _NEVER)
    swallowing = tuple(name for name, share in zip(names, shares, strict=True) if share > _SWALLOWS)
    return never, swallowing if len(names) > 1 else ()


@torch.no_grad()
def names_fit(pixels: Tensor, text: Tensor, vocabulary: Tensor) -> float:
    """How badly the names fit: where each fits best, the median share of the vocabulary that fits better.

    Args:
        pixels: (P, D) the teacher's unit pixel vectors, some of all images.
        text: (K, D) unit text vectors of the names.
        vocabulary: (V, D) those of the shipped nouns.

    Returns:
        The median over names, in [0, 1]; 0 where no noun fits better at most of a name's best positions.

    Raises:
        ValueError: no pixel or no name.
    """
    if not len(pixels) or not len(text):
        raise ValueError(f"pixels and names expected, got {len(pixels)} and {len(text)}")
    count = min(len(pixels), max(_BEST_AT_LEAST, len(pixels) // _BEST_SHARE))
    fits = []
    for name in text:
        best, at = (pixels @ name).topk(count)
        fits.append((pixels[at] @ vocabulary.T > best[:, None]).double().mean(1).median())
    return float(torch.stack(fits).median())
