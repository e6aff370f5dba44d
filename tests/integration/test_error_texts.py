"""Errors of the library name arguments, not options: whoever calls from Python has no command line."""

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src/clips4"
# rooms and modules that only commands call; what they raise may name options
COMMANDS = ("cli", "evaluation", "serve", "regions/job.py", "inference/jobs", "utils/output_folder")
MODULES = [
    path
    for path in sorted(SRC.rglob("*.py"))
    if not any(path.relative_to(SRC).is_relative_to(each) for each in COMMANDS)
]
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]+")
_OF_PIP = {"--upgrade", "--no-deps"}


def raised(module: Path) -> list[str]:
    """The texts of all errors and warnings of a module."""
    calls = [node for node in ast.walk(ast.parse(module.read_text("utf-8"))) if isinstance(node, ast.Call)]
    told = [call for call in calls if getattr(call.func, "id", getattr(call.func, "attr", "")) in _TELLING]
    return [
        part.value
        for call in told
        for part in ast.walk(call)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]


_TELLING = {"UserError", "UserTypeError", "ValueError", "TypeError", "warn", "notice"}


def test_texts_of_errors_are_found() -> None:
    assert sum(len(raised(module)) for module in MODULES) > 300


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_errors_of_the_library_name_no_options(module: Path) -> None:
    found = [(text, option) for text in raised(module) for option in _OPTION.findall(text) if option not in _OF_PIP]
    assert not found
