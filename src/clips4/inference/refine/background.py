"""Which pixels of a prediction are background: those of some names, or of low probability or cosine."""

from collections.abc import Sequence
from dataclasses import dataclass

from clips4.errors import UserError
from clips4.inference.result import SHARPNESS


@dataclass(frozen=True)
class BackgroundRule:
    """Which pixels are background. Rules combine: a pixel that meets one of them is background.

    Attributes:
        names: pixels nearest to one of these class names.
        probability: pixels whose class has a lower softmax probability among the queried ones, in (0, 1).
        cosine: pixels whose similarity to their class is lower, in (-1, 1).
        scale: multiplies the cosines in the softmax.
        queried: whether the background's own vectors take part in the softmax; evaluation protocols may differ.
        min_share: classes with no larger share of an image's foreground are not predicted; 0 predicts all. Only
            evaluation protocols use it.
    """

    names: tuple[str, ...] = ()
    probability: float | None = None
    cosine: float | None = None
    scale: float = SHARPNESS
    queried: bool = True
    min_share: float = 0.0


def parse_background(given: "BackgroundRule | float | str | Sequence[str] | None") -> BackgroundRule | None:
    """A background rule from any form.

    Args:
        given: a probability; a string "0.4" (a probability), "cosine 0.2" or "wall, sky"; a sequence of class names; a
            rule; or None.

    Raises:
        UserError: a threshold out of range, or no name.
    """
    if given is None or isinstance(given, BackgroundRule):
        rule = given
    elif isinstance(given, (int, float)):
        rule = BackgroundRule(probability=float(given))
    elif isinstance(given, str):
        head, _, tail = given.strip().replace("=", " ").partition(" ")
        if _number(given) is not None:
            rule = BackgroundRule(probability=_number(given))
        elif head.lower() == "cosine" and _number(tail) is not None:
            rule = BackgroundRule(cosine=_number(tail))
        else:
            rule = BackgroundRule(names=tuple(name.strip() for name in given.split(",")))
    else:
        rule = BackgroundRule(names=tuple(str(name).strip() for name in given))
    if rule is None:
        return None
    if rule.probability is not None and not 0 < rule.probability < 1:
        raise UserError(f"background {rule.probability}: give a probability between 0 and 1, 'cosine 0.2', or names")
    if rule.cosine is not None and not -1 < rule.cosine < 1:
        raise UserError(f"background cosine {rule.cosine}: give a cosine between -1 and 1")
    if not rule.queried or rule.min_share:
        raise UserError("background: `queried` and `min_share` are for evaluation protocols; leave them out")
    if (not rule.names and rule.probability is None and rule.cosine is None) or not all(rule.names):
        raise UserError("background: give a probability as 0.4, a cosine as 'cosine 0.2', or names as 'wall, sky'")
    return rule


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
