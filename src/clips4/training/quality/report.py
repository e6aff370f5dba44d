"""The quality report of a run, from images without labels: figures, sound ranges, verdict.

    RUN/quality.json    the figures, each with its sound range and verdict; what predictions use; one line of text

``assessment`` measures the figures; docs/reference/quality.md defines them and says how the ranges were measured. No
figure without labels says that a student is *better* than its teacher (docs/journal.md). They say whether a run is
spoiled.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import TypeAdapter

from clips4.utils.atomic_io import write_atomically
from clips4.utils.text import read_json

FILE, VERSION = "quality.json", 1
MIN_FIT_OF_NAME = 0.3  # of a single name: .5 % of 200 true names lie below, 5 % of absent things (docs/journal.md)
_SHOWN = 3  # names in a sentence

Use = Literal["student", "teacher"]
Verdict = Literal["good", "doubtful", "not judged"]
Value = float | tuple[str, ...] | None


class Definition(NamedTuple):
    """What a figure is.

    Attributes:
        title, meaning: for people; ``meaning`` is a sentence.
        low, high: ends of the sound range; None where it has no such end.
        problem: what a value outside the range means and what to do, with a place for ``{text}``; "" if not judged.
        spoils: whether such a value means that the student is no better than its teacher.
    """

    title: str
    meaning: str
    low: float | None = None
    high: float | None = None
    problem: str = ""
    spoils: bool = False


# of names, sound is none
FIGURES = {
    "images": Definition(
        "Training images",
        "How many images the student was trained on.",
        low=8,
        problem="only {text} training images (at least 8 are needed)",
        spoils=True,
    ),
    "agreement": Definition(
        "Agreement with the teacher",
        "Share of positions where student and teacher predict the same class, both by the teacher’s prototypes.",
        low=0.4,
        problem="the student agrees with its teacher on {text} of positions (at least 40 % is sound)",
        spoils=True,
    ),
    "cosine": Definition(
        "Likeness to the teacher",
        "Mean cosine between the student’s and the teacher’s vectors.",
        low=0.33,
        problem="the student’s vectors have left those of its teacher (cosine {text}, at least 0.33 is sound); "
        "lower train.lr",
        spoils=True,
    ),
    "view_agreement": Definition(
        "Agreement of two views, student",
        "Share of positions whose class stays the same when the image is mirrored.",
    ),
    "teacher_view_agreement": Definition(
        "Agreement of two views, teacher", "The same of the teacher, to compare with."
    ),
    "unknown": Definition(
        "Unknown",
        "Share of positions that the student predicts as unknown.",
        high=0.95,
        problem="{text} of positions are unknown; check --classes",
    ),
    "names_fit": Definition(
        "Fit of the class names",
        "Where a name fits best, its cosine as a share of that of the best common noun; the median of all names.",
        low=0.66,
        problem="most names fit the images badly ({text} of the best noun’s cosine, at least 66 % is sound); check "
        "--classes",
    ),
    "strangers": Definition(
        "Names that fit nothing",
        f"Class names whose own share is below {100 * MIN_FIT_OF_NAME:.0f} %.",
        problem="names fit nothing: {text}",
    ),
    "never": Definition(
        "Classes never predicted",
        "Classes with less than 0.1 % of all named positions; a few images cannot show many classes.",
    ),
    "lost": Definition(
        "Classes lost",
        "Of the classes that the teacher predicts in these images, the share that the student never predicts.",
        high=0.8,
        problem="the student never predicts {text} of the classes that its teacher predicts",
        spoils=True,
    ),
    "swallowing": Definition(
        "Classes that swallow everything",
        "Classes with more than 80 % of all named positions by the student, and not by the teacher.",
        problem="one class swallows nearly everything: {text}",
        spoils=True,
    ),
    "nonfinite": Definition(
        "Steps left out",
        "Share of training steps whose loss or gradient was not finite.",
        high=0.1,
        problem="the loss or gradient of {text} of the steps was not finite; lower train.lr",
        spoils=True,
    ),
    "loss_ratio": Definition(
        "Loss, end to start",
        "Mean loss of the last tenth of the steps, as a multiple of that of the first tenth.",
        high=1.5,
        problem="the loss rose to {text} of its start; lower train.lr",
        spoils=True,
    ),
}
_NUMBERS = ("images", "cosine", "loss_ratio")  # the others are shares, shown in percent


class Figure(NamedTuple):
    """A row of the report: a definition, its value and the verdict; see ``Quality``."""

    key: str
    definition: Definition
    value: Value
    verdict: Verdict

    @property
    def text(self) -> str:
        """The value for people."""
        if isinstance(self.value, tuple):
            return ", ".join(f"'{name}'" for name in self.value) or "none"
        return "not measured" if self.value is None else _show(self.key, self.value)

    @property
    def range_text(self) -> str:
        """The sound range for people; "" where there is none."""
        if isinstance(self.value, tuple):
            return "none" if self.definition.problem else ""
        ends = ("at least", self.definition.low), ("at most", self.definition.high)
        return " and ".join(f"{word} {_show(self.key, end)}" for word, end in ends if end is not None)

    @property
    def problem(self) -> str:
        """What is wrong, with a few names at most; "" where nothing is."""
        if self.verdict != "doubtful":
            return ""
        text = self.text
        if isinstance(self.value, tuple) and len(self.value) > _SHOWN:
            text = f"{', '.join(map(repr, self.value[:_SHOWN]))} and {len(self.value) - _SHOWN} more"
        return self.definition.problem.format(text=text)


@dataclass(frozen=True)
class Quality:
    """What is known of a run without labels. The figures of ``FIGURES`` are None where they were not measured.

    Attributes:
        measured_on: number of images that the figures were measured on.
        held_out: whether those were kept out of training.
    """

    images: int
    measured_on: int = 0
    held_out: bool = False
    agreement: float | None = None
    cosine: float | None = None
    view_agreement: float | None = None
    teacher_view_agreement: float | None = None
    unknown: float | None = None
    names_fit: float | None = None
    strangers: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    lost: float | None = None
    swallowing: tuple[str, ...] = ()
    nonfinite: float | None = None
    loss_ratio: float | None = None

    def figures(self) -> tuple[Figure, ...]:
        """All figures with their verdicts, in the order of ``FIGURES``."""
        values = {key: getattr(self, key) for key in FIGURES}
        return tuple(Figure(key, FIGURES[key], value, _judge(FIGURES[key], value)) for key, value in values.items())

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything outside its sound range."""
        return tuple(each.problem for each in self.figures() if each.problem)

    @property
    def verdict(self) -> Verdict:
        """Whether all figures that are judged are sound."""
        return "doubtful" if self.problems else "good"

    @property
    def use(self) -> Use:
        """What predictions use. Names that do not fit spoil both alike, so they do not count."""
        spoiled = any(each.problem and each.definition.spoils for each in self.figures())
        return "teacher" if spoiled else "student"

    @property
    def where(self) -> str:
        """What the figures were measured on."""
        kind = "held-out" if self.held_out else "training"
        return f"{self.measured_on} {kind} image{'' if self.measured_on == 1 else 's'}"

    def line(self) -> str:
        """One line for the terminal."""
        if self.problems:
            ending = " Predictions use the teacher; --use student overrides." if self.use == "teacher" else ""
            return f"Quality: doubtful: {'; '.join(self.problems)}.{ending}"
        if self.agreement is None:
            return f"Quality: good, as far as {self.where} show."
        share = _show("agreement", self.agreement)
        return f"Quality: good; student and teacher agree on {share} of positions ({self.where})."

    def to_json(self) -> str:
        """The text of ``quality.json``."""
        rows = {
            each.key: {"value": each.value, "sound": [each.definition.low, each.definition.high], "is": each.verdict}
            for each in self.figures()
        }
        summary = {"verdict": self.verdict, "use": self.use, "problems": self.problems, "line": self.line()}
        images = {"measured_on": self.measured_on, "held_out": self.held_out}
        return json.dumps({"version": VERSION, **summary, **images, "figures": rows}, indent=2) + "\n"


_QUALITY = TypeAdapter(Quality)


def _judge(definition: Definition, value: Value) -> Verdict:
    if value is None or not definition.problem:
        return "not judged"
    if isinstance(value, tuple):
        return "doubtful" if value else "good"
    low, high = definition.low, definition.high
    # not finite is outside of any range
    return "good" if (low is None or value >= low) and (high is None or value <= high) else "doubtful"


def _show(key: str, value: float) -> str:
    if key in _NUMBERS:
        return f"{value:.2f}" if isinstance(value, float) else f"{value}"
    return f"{100 * value:.0f} %" if value == 0 or value >= 0.0995 else f"{100 * value:.1f} %"


def write_quality(run: Path, quality: Quality) -> None:
    """Write ``RUN/quality.json``."""
    write_atomically(run / FILE, quality.to_json().encode())


def read_quality(run: Path) -> Quality | None:
    """What ``write_quality`` wrote; None where there is no such file, a damaged one, or one of another version."""
    try:
        found = read_json(run / FILE)
        if found["version"] != VERSION:
            return None
        values = {key: each["value"] for key, each in found["figures"].items()}
        return _QUALITY.validate_python(values | {key: found[key] for key in ("measured_on", "held_out")})
    except (ValueError, KeyError, TypeError, AttributeError):  # ValueError: of pydantic, and UserError
        return None
