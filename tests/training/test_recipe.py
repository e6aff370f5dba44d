"""What ``auto`` chooses."""

import pytest

from clips4.config import load_config
from clips4.training.recipe import PRESET, SMALL, choose_recipe, describe


@pytest.mark.parametrize("images", [1, 12, SMALL])
def test_recipe_of_few_images_loads_and_every_choice_takes_effect(images: int) -> None:
    choices = choose_recipe(images)
    chosen, plain = load_config(PRESET, [each.override for each in choices]), load_config(PRESET)
    for choice in choices:
        section, key = choice.override.partition("=")[0].split(".")
        assert getattr(getattr(chosen, section), key) != getattr(getattr(plain, section), key)


def test_recipe_of_many_images_is_the_preset() -> None:
    assert choose_recipe(SMALL + 1) == ()
    assert describe(()) == [f"auto: preset {PRESET} as it is."]


def test_recipe_loses_to_an_explicit_setting() -> None:
    overrides = [each.override for each in choose_recipe(24)]
    assert load_config(PRESET, [*overrides, "train.steps=7"]).train.steps == 7


def test_recipe_without_images_fails() -> None:
    with pytest.raises(ValueError, match="got 0"):
        choose_recipe(0)


def test_description_gives_each_choice_with_its_reason() -> None:
    choices = choose_recipe(24)
    lines = describe(choices)
    assert len(lines) == len(choices) + 1
    assert all(
        choice.override in line and choice.reason in line for choice, line in zip(choices, lines[1:], strict=True)
    )
