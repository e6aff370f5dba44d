"""A run's configuration: preset ``auto`` is ``recommended`` with choices by number and shape of images, with reasons.

``train`` is the library's front: it takes folders, names and presets, and hands images and configuration to ``loop``.

A choice is here only where a measurement supports it (docs/results.md, small jobs; docs/journal.md has what was tried).
The number of names was not varied on its own, so it chooses nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

from clips4.annotations.folder import open_labels
from clips4.config import Config, load_config, with_overrides
from clips4.data.class_names import ClassList, load_classes
from clips4.data.image_source import find_training_images, open_source
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.errors import UserError, UserTypeError
from clips4.models.checkpoint import checkpoint_folders, load_checkpoint
from clips4.models.teachers.base import Teacher
from clips4.training import loop
from clips4.training.loop import Callback, TrainResult
from clips4.utils.devices import has_bfloat16
from clips4.utils.progress import ProgressReporter, notice

AUTO = "auto"
PRESET = "recommended"
SMALL = 200  # images; the largest job measured had 142
WIDE = 1.6  # long side by short side, between those measured: photographs of 1.33 and 1.5, and video frames of 1.78


@dataclass(frozen=True)
class Choice:
    """One override and why.

    Attributes:
        override: ``section.key=value``.
        reason: one sentence for the user.
    """

    override: str
    reason: str


def choose_recipe(images: int, aspect: float = 1.5, bfloat16: bool = True) -> tuple[Choice, ...]:
    """What is chosen over preset ``recommended``, in a fixed order.

    Args:
        images: number of training images, about.
        aspect: long side by short side of a typical one.
        bfloat16: whether the device has instructions for it.

    Raises:
        ValueError: no image.

    Example:
        >>> [choice.override for choice in choose_recipe(24)][:2]
        ['train.steps=40', 'train.batch=4']
        >>> [choice.override for choice in choose_recipe(1500)]
        ['train.holdout=0.02']
    """
    if images < 1:
        raise ValueError(f"at least one image expected, got {images}")
    precise = () if bfloat16 else (Choice("train.precision=32-true", "this device only emulates bfloat16."),)
    if images > SMALL:
        return (
            Choice("train.holdout=0.02", "up to 32 images are kept apart for the quality report."),
            *precise,
        )
    few = f"{images} images are few"
    part, share = ("wide images: a quarter", 0.25) if aspect > WIDE else (f"{few}: half", 0.5)
    return (
        Choice("train.steps=40", f"{few}: longer training learns the teacher's mistakes by heart."),
        Choice("train.batch=4", f"{few}: a step sees 4 of them."),
        Choice(f"extensions.head_scale={share}", f"{part} of what the head learned fails least."),
        Choice("extensions.student_prototypes=true", f"{few}: prototypes from what the student sees fail least."),
        Choice("extensions.reference_share=1", f"{few}: what all of them show must not become the center."),
        *precise,
    )


def auto_config(
    images: int, aspect: float, overrides: Sequence[str] = (), device: str = "auto"
) -> tuple[Config, list[str]]:
    """The configuration of ``auto`` and lines that say what was chosen and why.

    Args:
        images: number of training images, about.
        aspect: long side by short side of a typical one.
        overrides: ``section.key=value`` strings of the user, which win over the choices.
        device: see ``utils.devices.pick_device``.

    Raises:
        UserError: see ``load_config``.
        ValueError: no image.
    """
    choices = choose_recipe(images, aspect, has_bfloat16(device))
    config = load_config(PRESET, [*(choice.override for choice in choices), *overrides])
    given = {_key(each) for each in overrides}  # what the user set was not chosen
    return config, describe(tuple(choice for choice in choices if _key(choice.override) not in given))


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


def choose_config(
    preset: str | Path | None,
    paths: Sequence[Path],
    overrides: Sequence[str],
    resumed: Path | None,
    device: str = "auto",
) -> tuple[Config, list[str]]:
    """The configuration of a training run, and lines that say how it was chosen.

    Args:
        preset: ``auto``, a shipped preset or a YAML file; None for the default: the settings of ``resumed`` where there
            is such a run, otherwise ``auto``.
        paths: training images or shards.
        overrides: ``section.key=value`` strings.
        resumed: folder of the run to resume; None for a new one.
        device: see ``utils.devices.pick_device``.

    Raises:
        UserError: see ``load_config``; no images; the run to resume is damaged.
    """
    if preset is None and resumed is not None and checkpoint_folders(resumed):
        return with_overrides(load_checkpoint(resumed).config, overrides), []
    if preset in (None, AUTO):
        images, sizes = open_source(paths).sizes()
        # images that cannot be read have no size; the pass over all of them says which
        aspect = median(max(size) / min(size) for size in sizes) if sizes else 1.0
        return auto_config(images, aspect, overrides, device)
    return load_config(preset, overrides), []


def describe(choices: tuple[Choice, ...]) -> list[str]:
    """Lines for the terminal and the report."""
    lines = [f"  {choice.override}  {choice.reason}" for choice in choices]
    return [f"auto: preset {PRESET}{' with' if lines else ''}", *lines]


def train(
    paths: str | Path | Iterable[str | Path],
    classes: str | Path | Sequence[str] | ClassList,
    run: str | Path | Config,
    config: Config | str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: ProgressReporter | None = None,
    callback: Callback | None = None,
    teacher: Teacher | str | Path | None = None,
    report: bool = True,
    preset: str | Path | None = None,
    settings: Mapping[str, object] | Sequence[str] = (),
    labels: LabeledFolder | str | Path | None = None,
) -> TrainResult:
    """Train a student on unlabeled images.

    Started by torchrun or Slurm, this is one rank of several, each with ``train.batch`` images: n ranks of batch B
    train like one rank of batch n * B.

    Args:
        paths: a folder, image files, lists (.txt) of them, or tar shards; broken images are skipped and listed in the
            result.
        classes: the known classes, in any form that ``load_classes`` takes.
        run: folder for checkpoints and ``log.jsonl``.
        config: all settings; instead of ``preset`` and ``settings``. The earlier order (paths, classes, config, run)
            is understood, too.
        resume: continue from the newest checkpoint of ``run``; the result equals that of an uninterrupted run.
        device: "auto", "cpu", "cuda" or "mps".
        progress: reports each stage and step.
        callback: evaluates the student every ``train.eval_every`` steps.
        teacher: the name of one, see ``load_teacher``; or a teacher itself, for experiments, since a run only keeps the
            name.
        report: whether to measure the run at its end, see ``training.quality``; where that finds the student spoiled,
            predictions use the teacher.
        preset: "auto", a shipped preset or a YAML file; "auto" by default, and when resuming the settings of the run.
        settings: single ones over the preset, ``{"train.steps": 200}`` or ``["train.steps=200"]``.
        labels: a folder with a few labeled images, see ``annotations.folder.open_labels``: the mean of a class's
            labeled pixels is its prototype, in place of one found by text.

    Returns:
        The run's folder, the number of steps and images, what was skipped, and the quality report.

    Raises:
        UserError: no usable image, ``run`` already holds a run, the run to resume has other settings, or an unknown
            preset or setting.
        UserTypeError: an argument of another type.
        Interrupted: Ctrl-C, after saving.

    Example:
        >>> result = train("photos/", ["cat", "dog"], "runs/x", preset="cpu", settings={"train.steps": 2}, report=False)
        >>> result.run, result.steps, result.images
        (PosixPath('runs/x'), 2, 3)
    """
    folder, config = (config, run) if isinstance(run, Config) else (run, config)
    if not isinstance(folder, (str, Path)):
        raise UserTypeError(f"run is the path of a folder, got {type(folder).__name__}")
    if config is not None and not isinstance(config, Config):
        raise UserTypeError(f"config is a Config, got {type(config).__name__}; a preset's name is preset={config!r}")
    folder, names = Path(folder), load_classes(classes)
    images = find_training_images([paths] if isinstance(paths, (str, Path)) else list(paths))
    overrides = (
        [f"{key}={_as_yaml(value)}" for key, value in dict(settings).items()]
        if isinstance(settings, Mapping)
        else list(settings)
    )
    if isinstance(teacher, (str, Path)):
        overrides, teacher = [f"teacher.name={_as_yaml(str(teacher))}", *overrides], None
    if config is None:
        config, reasons = choose_config(preset, images, overrides, folder if resume else None, device)
        for line in reasons:
            notice(line)
    elif preset is not None or overrides:
        raise UserError("a config holds all settings; give a preset, settings or a teacher's name, or a config")
    if isinstance(labels, (str, Path)):
        labels = open_labels(labels, names)
    return loop.train(images, names, config, folder, resume, device, progress, callback, teacher, report, labels)


def _as_yaml(value: object) -> str:
    """A value as ``load_config`` reads it, on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=2**20).removesuffix("...\n").strip()
