"""The glossary: terms that no module, class, function, parameter, option, key, test or benchmark is called by."""

import ast
import re
from pathlib import Path

import pytest

import clips4
from clips4.config import known_keys

SRC = Path(clips4.__file__).parent
ROOT = Path(__file__).parents[2]
TERMS = [
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
    "mends",
    "says",
    "telling",
    "asks",
    "spelt",
    "behaviour",
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
    "readingoptions",
    "answer_record",
    "go_on",
    "hold_against",
]
OLD_KEYS = ["rate", "power", "clip", "keep", "patience", "stall", "rounds", "prior", "grey", "reading"]
ALONE = ["probe", "Reader"]  # as whole names of modules, classes and functions; "linear_probe" is the field's term
# "asked" is a key in the JSON of a protocol, fixed since its first version; "tell" is a method of files; a byte pair
# encoder merges words
EXCEPTIONS = {"asked", "tell", "word", "merge_word"}


def names_of(path: Path) -> set[str]:
    """Names of classes, functions, parameters and annotated attributes of a module."""
    found = {path.stem, path.parent.name}
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


@pytest.mark.parametrize("folder", ["src/clips4", "benchmarks", "tests"])
def test_names_use_the_glossary(folder: str) -> None:
    paths = [path for path in (ROOT / folder).rglob("*.py") if path.stem not in ("config_renames", "test_words")]
    assert len(paths) > 20
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in paths
        for name in names_of(path) - (EXCEPTIONS if path.stem == "byte_pairs" else EXCEPTIONS - {"word", "merge_word"})
        if set(parts(name)) & set(TERMS) or name in ALONE or any(phrase in name.lower() for phrase in PHRASES)
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_configuration_keys_use_the_glossary() -> None:
    assert not [key for key in known_keys() if key.split(".")[1] in OLD_KEYS or set(parts(key)) & set(TERMS)]


def test_options_use_the_glossary() -> None:
    options = {
        option
        for path in (SRC / "cli").rglob("*.py")
        if path.name != "shell.py"  # maps old options
        for option in re.findall(r'"(--[a-z-]+)"', path.read_text("utf-8"))
    }
    assert len(options) > 30
    assert not [option for option in sorted(options) if set(parts(option)) & set(TERMS)]


# in the files of runs, which later versions read, and in what is hashed for caches and settings
KEPT_KEYS = {"pictures", "pictures_per_step", "doubt", "optimiser", "words", "reading"}


def test_keys_of_written_documents_use_the_glossary() -> None:
    wrong = set()
    for path in SRC.rglob("*.py"):
        if path.stem in ("config_renames", "shell", "byte_pairs"):  # map old names; a tokenizer's words
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Dict):
                keys = [key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
                wrong |= {
                    f"{path.relative_to(SRC)}: {key!r}"
                    for key in keys
                    if set(parts(key)) & set(TERMS) and key not in EXCEPTIONS | KEPT_KEYS
                }
    assert not wrong, "\n".join(sorted(wrong))
