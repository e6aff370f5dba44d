"""Background rules: every form in which one is given, and what is refused."""

import pytest

from clips4.errors import UserError
from clips4.inference.refine.background import BackgroundRule, parse_background


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (0.3, BackgroundRule(probability=0.3)),
        ("0.3", BackgroundRule(probability=0.3)),
        ("cosine 0.2", BackgroundRule(cosine=0.2)),
        ("cosine=-0.1", BackgroundRule(cosine=-0.1)),
        ("wall, sky", BackgroundRule(("wall", "sky"))),
        (["wall", " sky "], BackgroundRule(("wall", "sky"))),
        ("cosine", BackgroundRule(("cosine",))),
        (BackgroundRule(cosine=0.1), BackgroundRule(cosine=0.1)),
    ],
)
def test_parse_background_any_form_gives_a_rule(given: str | float | None, expected: BackgroundRule | None) -> None:
    assert parse_background(given) == expected


@pytest.mark.parametrize(
    "given", [0, 1, 1.5, "2", "nan", "cosine 1.5", "", "wall,,sky", (), [""], BackgroundRule(), float("nan")]
)
def test_parse_background_invalid_value_is_refused(given: object) -> None:
    with pytest.raises(UserError, match="background"):
        parse_background(given)  # type: ignore[arg-type]
