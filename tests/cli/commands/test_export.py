from pathlib import Path

import pytest

from clips4.cli.app import app
from clips4.cli.shell import run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --out FILE.onnx"),
        (["--out", "a.onnx", "--web", "page"], "give --out FILE.onnx"),
        (["--out", "a.txt"], "ends in .onnx"),
        (["--web", "page", "--text"], "--text belongs to --out"),
        (["--out", "a.onnx", "--onnxruntime", "copy"], "belongs to --web"),
        (["--web", "page", "--int8"], "go together"),
        (["--web", "page", "--onnxruntime", "nowhere"], "nowhere"),
    ],
)
def test_export_with_wrong_options_is_one_line(
    arguments: list[str],
    message: str,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(app, ["export", str(tiny_run), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
