"""Keys of earlier versions: renamed, or constants now."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from clips4.config import Config, known_keys, load_config, saved_config
from clips4.config_renames import FIXED, RENAMED, with_current_keys
from clips4.data.views import ASPECT, JITTER
from clips4.errors import UserError
from clips4.method.segments import LOCATION_WEIGHT
from clips4.models.affinity import RADIUS
from clips4.training.prototype_fitting import TEMPERATURE


def nested(key: str, value: Any) -> dict[str, dict[str, Any]]:
    section, name = key.split(".")
    return {section: {name: value}}


def test_renamed_keys_lead_to_current_or_fixed_ones() -> None:
    assert set(RENAMED.values()) <= {*known_keys(), *FIXED}
    assert not (RENAMED.keys() | FIXED.keys()) & set(known_keys())


def test_fixed_keys_have_the_values_of_the_constants() -> None:
    constants = [list(ASPECT), list(JITTER), LOCATION_WEIGHT, TEMPERATURE, RADIUS]
    assert list(FIXED.values()) == constants


@pytest.mark.parametrize("key", FIXED)
def test_fixed_key_with_its_constant_loads_silently_from_a_run_and_warns_elsewhere(key: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved_config(nested(key, FIXED[key]), "card.json")
    with pytest.warns(FutureWarning, match=f"setting {key}=.*: {key} is fixed at this value; leave it out"):
        load_config("cpu", [f"{key}={FIXED[key]}"])
    path = tmp_path / "old.yaml"
    section, name = key.split(".")
    path.write_text(f"{section}: {{{name}: {FIXED[key]}}}")
    with pytest.warns(FutureWarning, match="old.yaml"):
        assert load_config(path) == Config()


@pytest.mark.parametrize("key", FIXED)
@pytest.mark.parametrize("value", [7.5, [0.1, 0.2], "often", None])
def test_fixed_key_with_another_value_raises_one_line(key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"card\.json: {key} = .*: is fixed at .*; leave the key out") as caught:
        saved_config(nested(key, value), "card.json")
    assert "\n" not in str(caught.value)


def test_fixed_key_under_its_first_name_is_found() -> None:
    found = with_current_keys(nested("prototypes.mixture_temperature", 0.03), "card.json")
    assert found.fixed == ("extensions.em_temperature",)
    assert found.values == {"prototypes": {}, "extensions": {}}


@pytest.mark.parametrize("old", ["train.rate", "train.keep", "data.grey", "objective.matrix_mib"])
def test_renamed_key_in_an_override_warns_and_sets_the_new_one(old: str) -> None:
    section, name = RENAMED[old].split(".")
    with pytest.warns(FutureWarning, match=f"{old} is now called {RENAMED[old]}"):
        config = load_config("cpu", [f"{old}=1"])
    assert getattr(getattr(config, section), name) == 1
