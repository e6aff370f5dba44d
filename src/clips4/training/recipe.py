"""The default preset ``auto``: preset ``recommended`` with choices by number and shape of images, each with its reason.

A choice is here only where a measurement supports it (docs/results.md, small jobs; docs/journal.md has what was tried).
The number of names was not varied on its own, so it chooses nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from clips4.config import Config, load_config, with_overrides
from clips4.data.image_source import open_source
from clips4.models.checkpoint import checkpoint_folders, load_checkpoint
from clips4.utils.devices import has_bfloat16

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
    return config, describe(choices)


def choose_config(
    preset: str | None, paths: Sequence[Path], overrides: Sequence[str], resumed: Path | None, device: str = "auto"
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
    return [f"auto: preset {PRESET} with", *(f"  {choice.override}  {choice.reason}" for choice in choices)]
