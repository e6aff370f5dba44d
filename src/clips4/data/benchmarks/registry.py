"""Published sets, by name."""

from clips4.data.benchmarks.semantic import SPECS
from clips4.data.benchmarks.spec import SetSpec
from clips4.errors import UserError

SEMANTIC: dict[str, SetSpec] = {spec.name: spec for spec in SPECS}


def semantic_spec(name: str) -> SetSpec:
    """The description of a set with semantic label maps.

    Raises:
        UserError: no such set.
    """
    if name not in SEMANTIC:
        raise UserError(f"data set {name!r}: give one of {', '.join(SEMANTIC)}")
    return SEMANTIC[name]
