"""Names of cached files."""

from pathlib import Path

import pytest

from clips4.utils.cache import cache_root, content_key, settings_key


def test_cache_is_where_the_user_chose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLIPS4_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    monkeypatch.delenv("CLIPS4_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "clips4"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "clips4"


def test_changed_setting_has_another_name_and_order_plays_no_part() -> None:
    assert settings_key({"a": 1, "b": 2}) == settings_key({"b": 2, "a": 1})
    assert settings_key({"a": 1}) != settings_key({"a": 2}) != settings_key({"a": "2"})


def test_content_key_changes_with_the_bytes() -> None:
    assert content_key(b"one") == content_key(b"one") != content_key(b"two")
