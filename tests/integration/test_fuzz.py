"""A short run of benchmarks/fuzz.py, and that it sees what it looks for."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from clips4.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import fuzz


@pytest.mark.parametrize(("kind", "cases"), [("images", 250), ("masks", 250), ("arrays", 100), ("videos", 40)])
def test_fuzz_mutated_files_are_read_or_raise_one_line(kind: str, cases: int, tmp_path: Path) -> None:
    make_seeds, read = fuzz.KINDS[kind]
    seeds, counts = make_seeds(), Counter[str]()
    for number in range(cases):
        name, data = fuzz.make_case(kind, seeds, 0, number)
        path = tmp_path / name
        path.write_bytes(data)
        outcome, reason = fuzz.outcome_of(read, path)
        assert outcome in (fuzz.FINE, fuzz.TYPED), (name, reason)
        counts[outcome] += 1
    assert len(counts) == 2, "some are read, some raise"


@pytest.mark.parametrize("kind", ["images", "masks", "videos", "presets", "classes", "safetensors"])
def test_fuzz_seeds_are_read(kind: str, tmp_path: Path) -> None:
    make_seeds, read = fuzz.KINDS[kind]
    for name, data in make_seeds().items():
        (tmp_path / name).write_bytes(data)
        read(tmp_path / name)


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
    seeds = fuzz.KINDS["classes"][0]()
    assert fuzz.make_case("classes", seeds, 0, 7) == fuzz.make_case("classes", seeds, 0, 7)
    assert len({fuzz.make_case("classes", seeds, 0, number)[1] for number in range(20)}) > 15


def test_table_counts_every_outcome() -> None:
    text = fuzz.table({"images": Counter({fuzz.FINE: 1200, fuzz.HANG: 3})})
    assert text.splitlines()[-1] == "| images | 1,203 | 1,200 | 0 | 0 | 3 | 0 | 0 |"
