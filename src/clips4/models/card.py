"""The card of a checkpoint, checked: every value of its type and range, and tensors of the sizes that it names."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from clips4.data.class_names import UNKNOWN, ClassList
from clips4.errors import UserError
from clips4.utils.text import has_controls, printable

FORMAT = 2
_MOST_LAYERS, _LARGEST_SIZE = 512, 2**20  # of a network that a card describes


def _plain(text: str) -> str:
    if has_controls(text):
        raise ValueError("holds control characters")
    return text


def _sizes(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse a network that would not fit in memory, or take forever to build."""
    todo: list[tuple[str, Any]] = list(values.items())
    while todo:
        name, value = todo.pop()
        if isinstance(value, Mapping):
            todo += value.items()
        elif isinstance(value, Sequence) and not isinstance(value, str):
            todo += [(name, each) for each in value]
        elif isinstance(value, (int, float)):
            largest = _MOST_LAYERS if "layers" in name else _LARGEST_SIZE
            if not -largest <= value <= largest:
                raise ValueError(f"{name} = {value} is out of range")
    return values


def _distinct(classes: dict[str, list[str]]) -> dict[str, list[str]]:
    names = {name.casefold() for name in classes}
    if len(names) < len(classes) or UNKNOWN in names:
        raise ValueError(f"a class is listed twice, or has the reserved name {UNKNOWN!r}")
    return classes


Text = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_plain)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class Card(BaseModel):
    """What ``card.json`` holds; other keys are kept but not used.

    Attributes:
        format: of the checkpoint; 1 had no digests and another file for the optimizer, its student is the same.
        classes: name -> aliases of each known class.
        embed_dim: D.
        bank: S, segments of the bank; 0 for none, None in early runs.
        backbone: architecture of the student's backbone.
        config: of the run.
        versions: of the packages that made it.
        files: digests of the files beside it.
        use: what predicts, by the run's quality report.
    """

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)

    format: Literal[1, 2]
    step: Count
    classes: Annotated[
        dict[Text, Annotated[list[Text], Field(min_length=1)]], Field(min_length=1), AfterValidator(_distinct)
    ]
    embed_dim: int = Field(ge=1, le=2**16)
    bank: Count | None = None
    backbone: Annotated[dict[str, Any], AfterValidator(_sizes)] | None = None
    config: dict[str, Any]
    versions: dict[Text, Text] = {}
    files: dict[Text, Digest] = {}
    use: Literal["student", "teacher"] = "student"

    @property
    def class_list(self) -> ClassList:
        """The known classes."""
        return ClassList(tuple(self.classes), tuple(map(tuple, self.classes.values())))


def parse_card(values: Mapping[str, Any], source: object) -> Card:
    """Check the values of a card.

    Raises:
        UserError: of another version of clips4, or a value of the wrong type or out of range.
    """
    if (found := values.get("format")) not in (1, FORMAT) and isinstance(found, int):
        raise UserError(f"{source}: format {found} of another version of clips4; this one reads {FORMAT}")
    try:
        card = Card.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))[:80]
        raise UserError(f"{source}: {printable(key)}: {first['msg'].lower()}")
    return card


def check_sizes(card: Card, tensors: Mapping[str, Tensor], unknown: int, source: object, per_class: int = 1) -> None:
    """Refuse class vectors that do not fit the card and each other, or are not finite.

    Args:
        card: names K classes, D dimensions and S segments of the bank.
        tensors: ``prototypes.*`` and ``space.*`` of a checkpoint.
        unknown: the largest U.
        source: for the message.
        per_class: the largest number of prototypes of a known class, the same for all.

    Raises:
        UserError: one does not fit; the message names it.
    """
    k, d, u = len(card.classes), card.embed_dim, len(tensors["prototypes.unknown"])
    s = len(tensors.get("prototypes.bank", ())) if card.bank is None else card.bank
    rows = k * min(max(1, len(tensors["prototypes.known"]) // k), per_class)
    expected: dict[str, tuple[int, ...]] = {
        "prototypes.text": (k, d),
        "prototypes.known": (rows, d),
        "prototypes.unknown": (u, d),
        "prototypes.fitted": (rows + u, d),
        "prototypes.bank": (s, d),
        "prototypes.student_bank": (s, d),
        "prototypes.unknown_margin": (1,),
        "prototypes.head_scale": (1,),
        "prototypes.text_prior": (1,),
        "space.pixel_offset": (d,),
        "space.text_offset": (d,),
        "space.spreads": (2,),
    }
    for name, shape in expected.items():
        values = tensors.get(name)
        if values is None:
            continue
        if tuple(values.shape) != shape or not values.is_floating_point():
            raise UserError(f"{source}: {name} has shape {tuple(values.shape)} where the card names {shape}")
        if not values.isfinite().all():
            raise UserError(f"{source}: {name} holds values that are not finite")
    if u > unknown:
        raise UserError(f"{source}: has {u} unknown prototypes where its configuration names at most {unknown}")
    if "space.spreads" in tensors and not (tensors["space.spreads"] > 0).all():
        raise UserError(f"{source}: space.spreads are not positive")
    if s and "prototypes.bank" not in tensors:
        raise UserError(f"{source}: its card names a bank of {s} segments, which its tensors do not have")
