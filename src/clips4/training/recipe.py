"""The recipe that ``auto`` chooses for a set of images: overrides of preset ``recommended``, each with its reason.

A choice stands here only where a measurement supports it (issue 27, research r2: 24 small jobs of 12 to 142 images and
3 to 17 names, one seed, the built-in teacher, a prototype of this method: these rows were not yet repeated with this
code). The number of names and the sizes of images were not varied on their own, so they choose nothing. Nor does the
share of pixels that no name fits: unknown prototypes never gained, and cost .5 to 2 points of relative gain with a cap.
"""

from dataclasses import dataclass

PRESET = "recommended"
SMALL = 200  # images; the largest job measured had 142


@dataclass(frozen=True)
class Choice:
    """One override and why.

    Attributes:
        override: ``section.key=value``.
        reason: one sentence for the user.
    """

    override: str
    reason: str


def choose_recipe(images: int) -> tuple[Choice, ...]:
    """What is chosen over preset ``recommended``, in a fixed order; an explicit ``--set`` comes after and wins.

    Args:
        images: number of training images, about.

    Raises:
        ValueError: no image.

    Example:
        >>> [choice.override for choice in choose_recipe(24)][:2]
        ['train.steps=40', 'train.batch=4']
        >>> choose_recipe(1500)
        ()
    """
    if images < 1:
        raise ValueError(f"at least one image expected, got {images}")
    if images > SMALL:
        return ()
    few = f"{images} images are few"
    return (
        Choice("train.steps=40", f"{few}: small jobs were measured with 40 steps."),
        Choice("train.batch=4", f"{few}: small jobs were measured with 4 images a step."),
        Choice("teacher.calibrate=true", f"{few}: removing common offsets gave small jobs better prototypes."),
        Choice("extensions.exclusive_prototypes=true", f"{few}: a segment that fits two names counts for one of them."),
        Choice("extensions.prediction_context=1", f"{few}: what else an image shows helps to tell its classes apart."),
    )


def describe(choices: tuple[Choice, ...]) -> list[str]:
    """Lines for the terminal and the card."""
    if not choices:
        return [f"auto: preset {PRESET} as it is."]
    return [f"auto: preset {PRESET} with", *(f"  {choice.override}  {choice.reason}" for choice in choices)]
