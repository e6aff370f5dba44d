"""What CONTRIBUTING says of tests: they mirror src, are named by unit, condition and result, and use public names."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
SRC = TESTS.parent / "src" / "clips4"
FILES = sorted(TESTS.rglob("test_*.py"))


def mirrors(path: Path) -> bool:
    """``tests/ROOM/test_MODULE.py``, or ``test_MODULE_TOPIC.py``, has a module of that room."""
    words = path.stem.removeprefix("test_").split("_")
    room = SRC / path.parent.relative_to(TESTS)
    room = room if path.parent.name != "benchmarks" or room.is_dir() else TESTS.parent / "benchmarks"
    return any((room / f"{'_'.join(words[:end])}.py").is_file() for end in range(1, len(words) + 1))


def test_test_files_outside_integration_mirror_src() -> None:
    assert [
        str(path.relative_to(TESTS)) for path in FILES if path.parent.name != "integration" and not mirrors(path)
    ] == []


def test_test_names_have_unit_condition_and_result() -> None:
    short = [
        f"{path.relative_to(TESTS)}: {node.name}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and node.name.count("_") < 3
    ]
    assert short == []


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_uses(path: Path) -> list[str]:
    """Private names of the package that a file imports, reads, or patches."""
    tree, found = ast.parse(path.read_text("utf-8")), []
    own = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
    }
    named_tuples, notebooks = {"_replace", "_asdict", "_fields"}, {"_repr_html_", "_repr_png_"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("clips4"):
            found += [name.name for name in node.names if is_private(name.name)]
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            if node.attr not in own | named_tuples | notebooks | {"_exit"}:
                found.append(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("patch.setattr", "getattr")):
            names = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            found += [name for name in names if is_private(name.split(".")[-1])]
    return found


def test_test_files_use_only_public_names() -> None:
    used = {str(path.relative_to(TESTS)): private_uses(path) for path in TESTS.rglob("*.py")}
    assert {path: names for path, names in used.items() if names} == {}


def test_private_uses_in_every_form_are_found(tmp_path: Path) -> None:
    forms = [
        "from clips4.utils.images import _read",
        "import clips4.utils.images as m\nm._read()",
        "monkeypatch.setattr(m, '_LIMIT', 3)",
        "patch.setattr('clips4.utils.images._LIMIT', 3)",
    ]
    for form in forms:
        (tmp_path / "t.py").write_text(form)
        assert len(private_uses(tmp_path / "t.py")) == 1, form
