"""The notebooks of the docs: the tutorial runs cell by cell; the one for Colab is valid and uses what there is."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import clips4

nbformat = pytest.importorskip("nbformat", reason="the extra 'dev' is not installed")
FOLDER = Path(__file__).parents[2] / "docs/tutorial/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def code_cells(path: Path) -> Iterator[tuple[str, str]]:
    """Place and Python code of each cell; lines of IPython's own commands are left out."""
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if not line.startswith(("%", "!"))]
            yield f"{path.name}, cell {number}", "\n".join(lines)


def run_cell(source: str, place: str, names: dict[str, Any]) -> object:
    """The value of the cell's last line, if that is an expression, as a notebook shows it."""
    body = ast.parse(source, place).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), place, "exec"), names)
    return eval(compile(ast.Expression(last.value), place, "eval"), names) if isinstance(last, ast.Expr) else None


def test_there_are_two_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS] == ["colab-clip.ipynb", "tutorial.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_valid_and_has_no_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_compiles_and_imports_public_names(path: Path) -> None:
    for place, source in code_cells(path):
        for node in ast.walk(ast.parse(source, place)):
            if isinstance(node, ast.ImportFrom) and node.module == "clips4":
                assert {each.name for each in node.names} <= set(clips4.__all__), place


@pytest.mark.slow
def test_tutorial_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "tutorial"}
    shown = []
    for place, source in code_cells(FOLDER / "tutorial.ipynb"):
        value = run_cell(source.replace("STEPS = 20", "STEPS = 2"), place, names)
        shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else value)
    assert names["corrected"].sources == ("examples", "examples")
    assert capsys.readouterr().out.count("(160, 160)") == 4
    assert shown[-1] > 0.99  # type: ignore[operator]
    assert (tmp_path / "segmented/chelsea_overlay.png").is_file()
