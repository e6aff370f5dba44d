"""Behavior shared by all commands: global options, path lists and patterns, --quiet, colors, exit codes, errors."""

import errno
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from PIL import Image

from clips4.cli.arguments import expand_paths
from clips4.cli.shell import current_options, describe_error, global_options_first, run
from clips4.errors import UserError
from tests.cli.test_app import SETTINGS, clips4


def test_global_options_first_anywhere_but_after_two_dashes() -> None:
    assert global_options_first(["train", "a", "-q", "--debug"]) == ["-q", "--debug", "train", "a"]
    assert global_options_first(["--quiet", "train", "--quiet"]) == ["--quiet", "--quiet", "train"]
    assert global_options_first(["a", "--max-megapixels", "9", "b"]) == ["--max-megapixels", "9", "a", "b"]
    assert global_options_first(["a", "--max-megapixels=9", "b"]) == ["--max-megapixels=9", "a", "b"]
    assert global_options_first(["a", "--max-megapixels"]) == ["--max-megapixels", "a"]
    assert global_options_first(["train", "--", "--quiet"]) == ["train", "--", "--quiet"]


def test_max_megapixels_holds_for_one_command_and_its_workers(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (2048, 1024)).save(tmp_path / f"{name}.png")
    before = dict(os.environ)
    command = ("regions", tmp_path, "--count", "4", "--long-side", "32", "--save", "png", "--workers", "2")
    refused = clips4("--max-megapixels", "1.9", *command, "--out", tmp_path / "o")
    assert refused.returncode == 2
    assert (
        "a.png: 2048 x 1024 pixels are too many (limit: 1.9 megapixels); resize it, or raise the limit"
        in refused.stderr
    )
    assert "CLIPS4_MAX_MEGAPIXELS" in refused.stderr
    assert clips4(*command, "--out", tmp_path / "o", "--max-megapixels=2.1").returncode == 0
    for wrong in ("0", "-1", "nan", "inf"):
        assert clips4(*command, "--max-megapixels", wrong).stderr.startswith(
            f"clips4: --max-megapixels {float(wrong)}: give"
        )
    assert "--max-megapixels" in clips4("--help").stdout
    assert os.environ == before


def test_current_options_replaces_old_names_before_two_dashes() -> None:
    old = ["segment", "--reading", "sclip", "--pictures=a", "--", "--labelled"]
    assert current_options(old) == ["segment", "--dense-attention", "sclip", "--images=a", "--", "--labelled"]


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (UserError("the message"), "the message", 2),
        (typer.BadParameter("not a number"), "Invalid value: not a number; see clips4 --help", 2),
        (typer.Abort(), "stopped", 130),
        (
            PermissionError(13, "Permission denied", "/root/x"),
            "/root/x: Permission denied; fix this path",
            2,
        ),
        (OSError(errno.EMFILE, "Too many open files", "a"), "a: Too many open files; raise the limit (ulimit -n", 2),
        (OSError(errno.ENFILE, "Too many open files in system"), "Too many open files in system; raise", 2),
        (MemoryError(), "out of memory", 2),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory", 2),
        (TypeError("two\nlines"), "internal error: TypeError: two lines; add --debug for a traceback", 1),
    ],
)
def test_describe_error_gives_one_line_and_code(error: Exception, message: str, code: int) -> None:
    line, found = describe_error(error)
    assert line.startswith(message)
    assert "\n" not in line
    assert found == code


def application(action: object) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.callback()
    def common(debug: bool = False, quiet: bool = False) -> None: ...

    @app.command()
    def act() -> None:
        if isinstance(action, BaseException):
            raise action

    return app


def test_run_internal_error_prints_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    app = application(ZeroDivisionError("by zero"))
    assert run(app, ["act"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    with pytest.raises(ZeroDivisionError):
        run(app, ["act", "--debug"])


@pytest.mark.parametrize(
    ("action", "code"), [(None, 0), (typer.Exit(1), 1), (UserError("x"), 2), (KeyboardInterrupt(), 130)]
)
def test_run_returns_exit_code(action: BaseException | None, code: int) -> None:
    assert run(application(action), ["act"]) == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "photos"], "Missing option '--out'; see clips4 train --help"),
        (["train", "--out", "x"], "give IMAGES and --classes NAMES, or --dataset NAME --root DIR"),
        (["--bogus"], "No such option: --bogus; see clips4 --help"),
        (["paint"], "No such command 'paint'"),
        (["regions", "photos", "--count", "many"], "Invalid value for '--count'"),
    ],
)
def test_usage_error_prints_one_line(arguments: list[str], message: str) -> None:
    done = clips4(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("clips4: ")
    assert message in done.stderr


def commands() -> list[list[str]]:
    """Every command and subcommand, as words."""
    from clips4.cli.app import app

    found = []

    def walk(command: object, names: list[str]) -> None:
        children = getattr(command, "commands", {})
        for name, child in children.items():
            walk(child, [*names, name])
        if not children:
            found.append(names)

    walk(typer.main.get_command(app), [])
    return found


@pytest.mark.parametrize("names", commands(), ids=" ".join)
def test_help_example_of_each_command_parses(names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from clips4.cli.app import app
    from tests.command_lines import check_command_line

    assert run(app, [*names, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"clips4 {' '.join(names)} " in re.sub(r"\s+", " ", shown)
    command = typer.main.get_command(app)
    for word in names:
        command = command.commands[word]  # type: ignore[attr-defined]
    examples = re.split(r"\s·\s|;\s", str(command.epilog).split(":", 1)[1])
    assert examples
    for example in examples:
        check_command_line(re.sub(r"\(.*\)$", "", example.strip()))


def test_expand_paths_dash_reads_stdin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def paths_from(text: str) -> list[Path] | None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        return expand_paths([Path("run"), Path("-")])

    assert paths_from("a.jpg\nb c.jpg\n\n") == [Path("run"), Path("a.jpg"), Path("b c.jpg")]
    assert paths_from("a\nb.jpg\0c.jpg\0") == [Path("run"), Path("a\nb.jpg"), Path("c.jpg")]
    with pytest.raises(UserError, match="standard input: empty"):
        paths_from("\n")
    with pytest.raises(UserError, match="given twice"):
        expand_paths([Path("-"), Path("-")])


def test_expand_paths_pattern_gives_sorted_matches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.jpg", "a.jpg", "deep/er/c.jpg", "[x].jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert expand_paths([Path("?.jpg")]) == [Path("a.jpg"), Path("b.jpg")]
    assert Path("deep/er/c.jpg") in (expand_paths([Path("**/*.jpg")]) or [])
    assert expand_paths([tmp_path / "b*"]) == [tmp_path / "b.jpg"]
    assert expand_paths([Path("[x].jpg")]) == [Path("[x].jpg")], "an existing file is not a pattern"
    assert expand_paths([Path("{000..099}.tar"), Path("nowhere.jpg")]) == [Path("{000..099}.tar"), Path("nowhere.jpg")]
    with pytest.raises(UserError, match=r"\*\.png: matches no file"):
        expand_paths([Path("*.png")])


def test_json_option_lists_done_and_skipped(images: Path, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not an image")
    chosen = [str(sorted(images.iterdir())[0]), str(tmp_path / "broken.png")]
    for command in (["segment", str(tiny_run), *chosen], ["regions", *chosen, "--count", "6"]):
        out = str(tmp_path / command[0])
        done = clips4(*command, "--out", out, "--save", "png", "--json")
        record = json.loads(done.stdout)
        assert done.returncode == 0
        assert record["done"] == chosen[:1]
        assert list(record["skipped"]) == chosen[1:]
        assert record["out"] == out


@pytest.mark.slow
def test_quiet_json_prints_only_json(images: Path, tmp_path: Path) -> None:
    options = ("--classes", "cat", "--device", "cpu", *SETTINGS, "--set", "train.steps=1", "--json", "--quiet")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/broken.png").touch()
    trained = clips4("train", images / "*.png", tmp_path / "more", *options, "--out", tmp_path / "a")
    assert (trained.returncode, trained.stderr) == (0, "")
    record = json.loads(trained.stdout)
    assert (record["run"], record["images"], record["steps"]) == (str(tmp_path / "a"), 3, 1)
    assert list(record["skipped"]) == [str(tmp_path / "more/broken.png")]

    # of three images: the teacher would predict, with a warning
    command = [sys.executable, "-m", "clips4", "segment", "-q", str(tmp_path / "a"), "-", "--use", "student"]
    command += ["--out", str(tmp_path / "o")]
    listed = "\n".join(map(str, [*sorted(images.iterdir())[:2], tmp_path / "more/broken.png"]))
    done = subprocess.run(command, input=listed, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list((tmp_path / "o").rglob("photo?.png"))) == 2


def test_help_colors_only_on_terminals() -> None:
    assert "\x1b" not in clips4("--help").stdout
    colored = help_on_terminal({"TERM": "xterm-256color"})
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", colored), "the test itself can see colors"
    plain = help_on_terminal({"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert "segment" in plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)


def help_on_terminal(environment: dict[str, str]) -> str:
    """The output of ``clips4 --help`` on a terminal."""
    ours, theirs = pty.openpty()
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    command = [sys.executable, "-m", "clips4", "--help"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=kept | environment)
    os.close(theirs)
    output, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            output += part
    process.wait(60)
    os.close(ours)
    return output.decode()


def test_closed_pipe_prints_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m clips4 doctor --json | head -c 5", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_completion_of_a_prefix_lists_commands() -> None:
    environment = {**os.environ, "_CLIPS4_COMPLETE": "complete_bash", "COMP_WORDS": "clips4 ev", "COMP_CWORD": "1"}
    command = [sys.executable, "-m", "clips4"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["evaluate"]


def test_import_and_help_load_nothing_heavy() -> None:
    """Counted, not timed; times are printed by benchmarks/import_time.py."""
    code = "import torch, sys; before = set(sys.modules); import clips4; print(*set(sys.modules) - before)"
    added = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "clips4" in added
    assert len(added) <= 5, added
    code = "import sys; sys.argv = ['clips4', '--help']\ntry:\n import clips4.__main__\nexcept SystemExit: pass\n"
    code += "print(*sys.modules, file=sys.stderr)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split()
    assert "clips4.cli.app" in loaded
    heavy = {"torch", "numpy", "scipy", "skimage", "transformers", "kornia", "pydantic", "PIL", "huggingface_hub"}
    assert not heavy & set(loaded)


def test_current_options_json_with_a_file_is_record_in_three_commands() -> None:
    assert current_options(["score", "tracking", "--json", "a.json"]) == ["score", "tracking", "--record", "a.json"]
    assert current_options(["track", "run", "--json=areas"]) == ["track", "run", "--record=areas"]
    assert current_options(["evaluate", "language", "--json", "run"]) == ["evaluate", "language", "--json", "run"]
    assert current_options(["segment", "--json", "a.json"]) == ["segment", "--json", "a.json"]
