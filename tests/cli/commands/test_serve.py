import socket
import sys
from pathlib import Path

import pytest

from clips4.cli.app import app
from clips4.cli.shell import run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a run"),
        (["nowhere"], "nowhere"),
        (["--teacher-only", "nobody"], "nobody"),
        (["--teacher-only", "conse", "--use", "student"], "leave it out"),
    ],
)
def test_serve_without_a_usable_model_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["serve", *arguments, "--port", "0", "--no-browser"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_serve_at_a_taken_port_names_it(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(app, ["serve", str(tiny_run), "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}: cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_serve_without_its_extra_names_it(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert run(app, ["serve", "anything"]) == 2
    assert "pip install 'clips4[serve]'" in capsys.readouterr().err


def test_serve_for_other_machines_warns(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["serve", "nowhere", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "other machines can reach this server" in capsys.readouterr().err
