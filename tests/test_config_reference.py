"""The list of settings: every one has a meaning, and each preset's values are those that it loads with."""

import pytest

from clips4.config import known_keys, load_config, preset_names
from clips4.config_reference import preset_summaries, settings, shown, table


def test_settings_each_has_a_meaning() -> None:
    assert [each.key for each in settings()] == known_keys()
    assert not [each.key for each in settings() if not each.meaning]


@pytest.mark.parametrize("preset", preset_names())
def test_settings_of_a_preset_rebuild_it(preset: str) -> None:
    found = [f"{each.key}={shown(each.presets[preset])}" for each in settings() if preset in each.presets]
    assert load_config(preset) == load_config(preset, found)
    others = [each for each in settings() if preset not in each.presets]
    loaded = load_config(preset).model_dump(mode="json")
    for each in others:
        section, key = each.key.split(".")
        assert loaded[section][key] == each.default


def test_preset_summaries_are_short_sentences() -> None:
    summaries = preset_summaries()
    assert list(summaries) == preset_names()
    assert all(10 < len(text) < 260 and "\n" not in text and "#" not in text for text in summaries.values())


def test_table_groups_presets_by_value() -> None:
    assert "[4, 4]: multi-gpu, paper" in table(settings("segments.clusters"))
