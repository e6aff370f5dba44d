"""What ``auto`` chooses."""

from pathlib import Path

import pytest

from clips4.config import Config, load_config
from clips4.data.class_names import load_classes
from clips4.data.image_folder import find_images
from clips4.errors import UserError
from clips4.models.checkpoint import load_checkpoint
from clips4.training.loop import train as train_on
from clips4.training.recipe import PRESET, SMALL, WIDE, choose_config, choose_recipe, describe, train
from tests.helpers import TINY


@pytest.mark.parametrize("images", [1, 12, SMALL])
@pytest.mark.parametrize("aspect", [1.0, WIDE, 16 / 9])
def test_recipe_of_few_images_loads_and_every_choice_takes_effect(images: int, aspect: float) -> None:
    choices = choose_recipe(images, aspect)
    assert ("extensions.head_scale=0.25" in [each.override for each in choices]) == (aspect > WIDE)
    chosen, plain = load_config(PRESET, [each.override for each in choices]), load_config(PRESET)
    for choice in choices:
        section, key = choice.override.partition("=")[0].split(".")
        assert getattr(getattr(chosen, section), key) != getattr(getattr(plain, section), key)


def test_recipe_of_many_images_keeps_some_for_the_report() -> None:
    assert [each.override for each in choose_recipe(SMALL + 1)] == ["train.holdout=0.02"]


def test_recipe_of_a_device_without_bfloat16_is_float32() -> None:
    assert choose_recipe(SMALL + 1, bfloat16=False)[-1].override == "train.precision=32-true"
    assert choose_recipe(3, bfloat16=False)[-1].override == "train.precision=32-true"


def test_config_of_no_preset_is_auto(images: Path) -> None:
    paths = find_images([images])
    config, reasons = choose_config(None, paths, ["train.seed=3"], None, "cpu")
    assert config == choose_config("auto", paths, ["train.seed=3"], None, "cpu")[0]
    assert (config.train.steps, config.train.seed) == (40, 3)
    assert reasons[0] == "auto: preset recommended with"


def test_lines_of_auto_leave_out_what_the_user_set(images: Path) -> None:
    paths = find_images([images])
    config, lines = choose_config(None, paths, ["train.steps=30"], None, "cpu")
    assert config.train.steps == 30
    assert not [line for line in lines if "train.steps" in line]
    assert [line for line in lines if "train.batch=4" in line]
    assert describe(()) == ["auto: preset recommended"]


def test_config_of_a_named_preset_is_that_preset(images: Path) -> None:
    config, reasons = choose_config("cpu", find_images([images]), ["train.steps=7"], None)
    assert (config, reasons) == (load_config("cpu", ["train.steps=7"]), [])


def test_config_of_a_resumed_run_is_its_own(images: Path, tiny_run: Path, tiny_config: Config) -> None:
    config, reasons = choose_config(None, find_images([images]), ["train.keep_checkpoints=5"], tiny_run)
    assert reasons == []
    assert config.decisive()["train"] == tiny_config.decisive()["train"]
    assert config.train.keep_checkpoints == 5


def test_config_of_a_resumed_folder_without_a_run_is_auto(images: Path, tmp_path: Path) -> None:
    assert choose_config(None, find_images([images]), [], tmp_path)[0].extensions.residual


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


@pytest.mark.slow
def test_train_by_strings_equals_training_with_a_config(images: Path, tiny_config: Config, tmp_path: Path) -> None:
    paths, classes = sorted(images.iterdir()), load_classes("cat,dog")
    expected = train_on(paths, classes, tiny_config, tmp_path / "a", device="cpu", report=False)
    settings = dict(each.split("=") for each in TINY)
    typed = {key: {"false": False}.get(value) if value == "false" else int(value) for key, value in settings.items()}
    simple = train(
        str(images), ["cat", "dog"], str(tmp_path / "b"), device="cpu", preset="cpu", settings=typed, report=False
    )
    earlier = train(paths, classes, tiny_config, tmp_path / "c", device="cpu", report=False)
    one, *others = (load_checkpoint(each.run) for each in (expected, simple, earlier))
    for other in others:
        assert other.config == one.config
        assert all((a == b).all() for a, b in zip(other.student.parameters(), one.student.parameters(), strict=True))
    assert repr(simple) == f"TrainResult({tmp_path / 'b'}: 2 steps on 3 images, 0 skipped)"


def test_train_with_a_config_and_settings_is_refused(images: Path, tiny_config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give a preset, settings or a teacher's name, or a config"):
        train(images, ["cat"], tmp_path / "run", tiny_config, settings=["train.steps=3"])


def test_train_with_wrong_types_is_a_type_error(images: Path) -> None:
    with pytest.raises(TypeError, match="run is the path of a folder, got int"):
        train(images, ["cat"], 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a preset's name is preset='cpu'"):
        train(images, ["cat"], "run", "cpu")
