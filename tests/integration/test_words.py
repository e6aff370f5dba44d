"""The glossary: words that no module, class, function, parameter, option or configuration key is called by."""

import ast
import re
from pathlib import Path

import clips4
from clips4.config import known_keys

SRC = Path(clips4.__file__).parent
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WORDS = [
    "word",
    "words",
    "picture",
    "pictures",
    "answer",
    "answers",
    "answered",
    "asker",
    "ask",
    "asked",
    "asking",
    "question",
    "questions",
    "say",
    "said",
    "tell",
    "tells",
    "told",
    "listener",
    "listening",
    "reading",
    "readings",
    "speaking",
    "spoken",
    "findings",
    "naming",
    "watcher",
    "watching",
    "neighbour",
    "neighbours",
    "neighbouring",
    "colour",
    "colours",
    "grey",
    "centre",
    "centres",
    "optimiser",
    "optimise",
    "quantise",
    "quantisation",
    "normalise",
    "labelled",
    "mend",
    "doubt",
]
PHRASES = [
    "made_by",
    "set_kmeans",
    "backbone_rate",
    "watch_every",
    "matrix_mib",
    "goes_on",
    "held_against",
    "stands_in",
    "told_of",
    "reading_side",
    "mixture_temperature",
    "jitter_probability",
    "spare_same_class",
]
OLD_KEYS = ["rate", "power", "clip", "keep", "patience", "stall", "rounds", "prior"]
# "asked" is a key in the JSON of a protocol, fixed since its first version; "tell" is a method of files
EXCEPTIONS = {"asked", "tell"}


def names_of(path: Path) -> set[str]:
    """Names of classes, functions, parameters and annotated attributes of a module."""
    found = {path.stem}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def parts(name: str) -> list[str]:
    """snake_case or CamelCase -> its words, in lower case."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)]


def test_names_in_src_and_benchmarks_use_the_glossary() -> None:
    wrong = {
        f"{path.relative_to(SRC.parents[1])}: {name}"
        for path in [*SRC.rglob("*.py"), *BENCHMARKS.glob("*.py")]
        if path.name != "config_renames.py"
        for name in names_of(path) - EXCEPTIONS
        if set(parts(name)) & set(WORDS) or any(phrase in name.lower() for phrase in PHRASES)
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_configuration_keys_use_the_glossary() -> None:
    assert not [key for key in known_keys() if key.split(".")[1] in OLD_KEYS or set(parts(key)) & set(WORDS)]


def test_options_use_the_glossary() -> None:
    options = {
        option
        for path in (SRC / "cli").rglob("*.py")
        if path.name != "shell.py"  # maps old options
        for option in re.findall(r'"(--[a-z-]+)"', path.read_text("utf-8"))
    }
    assert len(options) > 30
    assert not [option for option in sorted(options) if set(parts(option)) & set(WORDS)]
