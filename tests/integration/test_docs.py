"""Every code block of README and docs: Python is run, commands are parsed by their own parsers, cheap ones run.

A block that must not be run where the tests run says why in the line before it: ``<!-- not run: reason -->``; its
commands are parsed all the same.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from clips4.config import known_keys
from tests.annotations.test_folder import write_masks
from tests.command_lines import check_command_line, clips4_arguments, command_options, logical_lines
from tests.helpers import photograph

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# first parts of lines that are no command of ours, and what is to be true of it
_OTHERS = {"pip", "make", "find", "python", "docker", "sbatch", "deploy/torchrun.sh"}
_SLOW = ("export", "class-names")  # pages whose Python takes half a minute
_KNOWN_LANGUAGES = {"python", "sh", "bibtex", ""}
_CHEAP = re.compile(r"clips4 (doctor|--version|publish \S+ --out|segment runs/pets photos/ --(out|classes sofa))")


class Block(NamedTuple):
    """A fenced block: where it stands, its language, its text, and why it is not run, if it says so."""

    page: str
    place: str
    language: str
    text: str
    reason: str | None


def blocks() -> list[Block]:
    """All fenced blocks of all pages."""
    found = []
    fence = re.compile(
        r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
    )
    for page in PAGES:
        text = page.read_text("utf-8")
        assert text.count("\n```") % 2 == 0, f"{page}: a block is not closed"
        for match in fence.finditer(text):
            place = f"{page.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}"
            found.append(Block(str(page.relative_to(ROOT)), place, match["language"], match["text"], match["reason"]))
    return found


def of(language: str) -> list[Block]:
    return [block for block in blocks() if block.language == language]


@pytest.fixture(scope="module")
def workspace(tiny_run: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as readers of the pages have it: runs, photographs, an image."""
    folder = tmp_path_factory.mktemp("workspace")
    for run in ("demo", "pets"):
        shutil.copytree(tiny_run, folder / "runs" / run)
    shutil.copytree(images, folder / "photos")
    photograph().save(folder / "photo.jpg")
    (folder / "my_labels").mkdir()
    write_masks(folder / "my_labels")
    return folder


def test_pages_have_blocks_of_known_languages() -> None:
    assert len(of("python")) >= 4
    assert len(of("sh")) >= 15
    assert {block.language for block in blocks()} <= _KNOWN_LANGUAGES


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * (Path(page).stem in _SLOW))
        for page in sorted({block.page for block in of("python")})
    ],
)
def test_docs_python_blocks_run(page: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page one after the other, as one reads it."""
    monkeypatch.chdir(workspace)
    names: dict[str, object] = {"__name__": "docs"}
    for block in (block for block in of("python") if block.page == page):
        if block.reason is not None:
            ast.parse(block.text, block.place)
            continue
        exec(compile(block.text, block.place, "exec"), names)


@pytest.mark.parametrize("block", of("sh"), ids=lambda block: block.place)
def test_docs_command_lines_parse(block: Block) -> None:
    for line in logical_lines(block.text):
        last = line.split(" | ")[-1]
        if clips4_arguments(last) is not None:
            check_command_line(last)
            continue
        parts = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
        assert parts[0] in _OTHERS, f"{block.place}: nothing is known of {parts[0]!r}"
        if parts[0] == "make":
            assert re.search(rf"^{parts[1]}:", (ROOT / "Makefile").read_text(), re.M), line
        elif parts[0] == "python":
            assert parts[1:3] == ["-m", "http.server"] or check_benchmark(parts[1:], block.place)
        elif parts[0] == "pip":
            check_extras(line)
        elif parts[:2] == ["docker", "run"]:
            check_command_line(shlex.join(parts[parts.index("clips4") :]))
        else:
            assert all((ROOT / word).is_file() for word in parts if word.startswith("deploy/")), line


# options of others, which the pages name in a sentence
_FILE = re.compile(r"py|md|yaml|json|safetensors|sbatch")
_FOREIGN_OPTIONS = {"--no-deps", "--build-arg", "--index-url", "--user", "--users", "--seconds"}
_GUIDES = [page for page in PAGES if page.name not in ("results.md", "journal.md")]  # those name options of benchmarks


@pytest.mark.parametrize("page", _GUIDES, ids=lambda page: str(page.relative_to(ROOT)))
def test_docs_names_in_sentences_exist(page: Path) -> None:
    """Commands, options and settings between backticks, with lines joined."""
    options, keys = command_options(), set(known_keys())
    sections = {key.partition(".")[0] for key in keys}
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    for span in (re.sub(r"\s+", " ", each) for each in re.findall(r"`([^`]+)`", text)):
        words = span.split()
        flags = {word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z0-9-]+(=.*)?", word)}
        if words[0] == "clips4" and len(words) > 1 and not words[1].startswith("-") and words[1].islower():
            name = max((each for each in options if f"{' '.join(words[1:])} ".startswith(f"{each} ")), key=len)
            assert name, f"there is no `{span}`"
            assert flags <= options[name] | options[""] & {"--debug", "--quiet", "--max-megapixels"}, span
        elif words[0] not in ("python", "pip", "docker", "make", "torchrun"):
            assert flags <= options[""] | _FOREIGN_OPTIONS, span
        for word in words:
            key = re.fullmatch(r"([a-z]+)\.([a-z_0-9]+)(=.*)?", word)
            if key and key[1] in sections and not _FILE.fullmatch(key[2]):
                assert f"{key[1]}.{key[2]}" in keys, f"there is no setting {word}"


def check_benchmark(parts: list[str], place: str) -> bool:
    """True if the program is there and has every option that the line gives it; otherwise an assertion fails."""
    program = ROOT / parts[0]
    assert program.is_file(), f"{place}: {parts[0]} is not there"
    source = program.read_text("utf-8")
    for option in (word for word in parts if word.startswith("--")):
        assert f'"{option}"' in source, f"{place}: {parts[0]} has no {option}"
    return True


def check_extras(line: str) -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for group in re.findall(r"\[([\w,]+)\]", line):
        assert set(group.split(",")) <= extras.keys(), line


def cheap_lines() -> list[str]:
    lines = [line for block in of("sh") if block.reason is None for line in logical_lines(block.text)]
    return sorted({" ".join(shlex.split(line, comments=True)) for line in lines if _CHEAP.match(line)} - _NEEDS_MORE)


# segment with every kind of output is run by test_segment_files.py; --data needs a copy of a set
_NEEDS_MORE = {
    line
    for block in of("sh")
    for line in (" ".join(shlex.split(each, comments=True)) for each in logical_lines(block.text))
    if "--save" in line or "--data" in line
}


@pytest.mark.parametrize("line", cheap_lines())
def test_docs_cheap_commands_run(line: str, workspace: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", *shlex.split(line)]
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_there_are_cheap_commands() -> None:
    assert len(cheap_lines()) >= 4


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the extra 'docs' is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    api = (tmp_path / "site/reference/api/index.html").read_text("utf-8")
    assert "clips4.inference.segmenter.Segmenter.segment" in api
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.search(r'<(script|link)[^>]+(src|href)="https?://', text), f"{page} fetches something"
