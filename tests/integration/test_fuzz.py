"""A short run of benchmarks/fuzz.py, and that it sees what it looks for."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from clips4.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import fuzz

CASES = {"images": 250, "masks": 250, "arrays": 100, "videos": 40, "bombs": 12, "exif": 60, "shards": 30, "presets": 60}
CASES |= {"classes": 60, "safetensors": 60, "states": 60, "cards": 30, "onnx": 30, "folders": 25}


@pytest.mark.parametrize(("kind", "cases"), CASES.items())
def test_fuzz_changed_files_are_read_or_raise_one_line(
    kind: str, cases: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "bombs":
        monkeypatch.setenv("CLIPS4_MAX_MEGAPIXELS", "0.1")  # less to decode
    seeds, read, _ = fuzz.KINDS[kind]
    sound, counts = seeds(), Counter[str]()
    for number in range(cases):
        name, data = fuzz.make_case(kind, sound, 0, number)
        path = tmp_path / name
        path.write_bytes(data)
        outcome, reason = fuzz.outcome_of(read, path)
        assert outcome in (fuzz.FINE, fuzz.TYPED), (name, reason)
        counts[outcome] += 1
        path.unlink()
    assert len(counts) == (1 if kind == "exif" else 2), "some are read, some raise; odd tags spoil no image"
    assert not list(tmp_path.iterdir()), "nothing is left over, and nothing of a file was run"


KINDS = ["images", "exif", "masks", "videos", "presets", "classes", "safetensors", "shards", "cards", "onnx"]


@pytest.mark.parametrize("kind", KINDS)
def test_fuzz_seeds_are_read(kind: str, tmp_path: Path) -> None:
    seeds, read, _ = fuzz.KINDS[kind]
    for name, data in seeds().items():
        (tmp_path / name).write_bytes(data)
        read(tmp_path / name)


@pytest.mark.parametrize("name", [b"class_names", b"strides", b"student", b'"dog"', b"weight", b"images"])
def test_onnx_file_with_names_that_are_no_text_raises_and_prints_nothing(
    name: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from clips4.models.onnx.metadata import seal

    whole = fuzz.KINDS["onnx"].seeds()["a.onnx"][: -len(seal(b""))]
    (tmp_path / "a.onnx").write_bytes(seal(whole.replace(name, b"\xff" + name[1:])))
    with pytest.raises(UserError, match="export the run again"):
        fuzz.KINDS["onnx"].read(tmp_path / "a.onnx")
    assert capsys.readouterr() == ("", "")


def test_watch_lists_programs_and_files_outside_of_the_folder(tmp_path: Path) -> None:
    program = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import fuzz
found = fuzz.watch(Path("in"))
for done in (
    lambda: Path("in/a").write_bytes(b""), lambda: Path("in/../out").write_bytes(b""), lambda: os.system("true"),
    lambda: subprocess.run(["true"]), lambda: os.rename("in/a", "b"), lambda: Path("in/c").symlink_to("/etc/passwd"),
    lambda: Path("in/c").read_bytes(), lambda: None,
    lambda: os.mkdir("d"), lambda: Path("b").unlink(),
):
    done()
    print(sorted({each.split()[0] for each in found}))
    found.clear()
"""
    (tmp_path / "in").mkdir()
    command = [sys.executable, "-c", program, str(Path(fuzz.__file__).parent)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[:3] == ["[]", "['open']", "['os.system']"]
    assert "subprocess.Popen" in lines[3]
    assert lines[4:7] == ["['os.rename']", "[]", "[]"]
    assert lines[8:] == ["['os.mkdir']", "['os.remove']"]


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda path: None, fuzz.FINE),
        (lambda path: _raise(UserError(f"{path}: damaged")), fuzz.TYPED),
        (lambda path: _raise(UserError("damaged")), fuzz.OTHER),
        (lambda path: _raise(KeyError(path)), fuzz.OTHER),
    ],
)
def test_outcome_of_a_reader(read: Callable[[Path], None], outcome: str, tmp_path: Path) -> None:
    assert fuzz.outcome_of(read, tmp_path / "0.png")[0] == outcome


def test_fuzz_worker_finishes_its_cases_and_a_peak_ends_it(tmp_path: Path) -> None:
    assert {outcome for _, outcome, _ in fuzz.run_cases("classes", 5, 0)} <= {fuzz.FINE, fuzz.TYPED}
    assert [outcome for _, outcome, _ in fuzz.run_cases("classes", 2, 0, memory=1)] == [fuzz.LARGE] * 2


def test_make_case_is_the_same_again_and_differs_by_number() -> None:
    seeds = fuzz.KINDS["classes"].seeds()
    assert fuzz.make_case("classes", seeds, 0, 7) == fuzz.make_case("classes", seeds, 0, 7)
    assert len({fuzz.make_case("classes", seeds, 0, number)[1] for number in range(20)}) > 15


def test_table_counts_every_outcome() -> None:
    text = fuzz.table({"images": Counter({fuzz.FINE: 1200, fuzz.HANG: 3})})
    assert text.splitlines()[-1] == "| images | 1,203 | 1,200 | 0 | 0 | 3 | 0 | 0 | 0 |"
