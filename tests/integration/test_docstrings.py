"""The docstrings of the public interface: each says what comes back and has an example, and the examples run."""

import doctest
import inspect
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import clips4
from tests.helpers import photograph

NOTHING_BACK = {"Segmenter.set_image", "InferenceOptions.check"}


def public() -> Iterator[tuple[str, Any]]:
    """Name and object of each public class, function and method that we wrote."""
    for name in clips4.__all__:
        value = getattr(clips4, name)
        if not callable(value):
            continue
        yield name, value
        if inspect.isclass(value):
            for key, member in inspect.getmembers(value):
                of_us = (getattr(member, "__module__", None) or "").startswith("clips4.")
                if not key.startswith("_") and callable(member) and of_us:
                    yield f"{name}.{key}", member


NAMES = dict(public())


def test_public_objects_are_found() -> None:
    assert {"Segmenter.segment", "Segmentation.mask", "train", "Teacher.encode_text"} <= NAMES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_public_docstring_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(NAMES[name]) or ""), f"{name}: no example"


@pytest.mark.parametrize("name", [name for name, value in NAMES.items() if not inspect.isclass(value)])
def test_public_docstring_has_arguments_and_returns(name: str) -> None:
    text = inspect.getdoc(NAMES[name]) or ""
    assert "Returns:" in text or "Yields:" in text or name in NOTHING_BACK, name
    given = [each for each in inspect.signature(NAMES[name]).parameters if each != "self"]
    assert not given or "Args:" in text, name


@pytest.fixture(scope="module")
def workspace(tiny_run: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as readers of the examples have it."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(tiny_run, folder / "runs/pets")
    shutil.copytree(images, folder / "photos")
    photograph().save(folder / "photo.jpg")
    (folder / "frames").mkdir()
    for index in range(2):
        photograph(seed=index).save(folder / f"frames/{index:04}.jpg")
    Image.fromarray(np.eye(72, 96, dtype=np.uint8)).save(folder / "first.png")
    return folder


@pytest.fixture(scope="module")
def segmenter(workspace: Path) -> clips4.Segmenter:
    return clips4.Segmenter.load(workspace / "runs/pets", device="cpu")


_SLOW = ("Segmenter.discover", "export_onnx")
load_teacher_once = cache(clips4.load_teacher)  # it takes seconds, and its examples change nothing


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW)) for name in NAMES])
def test_public_examples_run(
    name: str, workspace: Path, segmenter: clips4.Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``segmenter`` and the public names are what an example may use without saying where they come from."""
    pytest.importorskip("onnx") if name == "export_onnx" else None
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = {each: getattr(clips4, each) for each in clips4.__all__}
    names |= {"segmenter": segmenter, "load_teacher": load_teacher_once}
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(NAMES[name]) or "", names, name, None, None)
    assert examples.examples
    problems: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples, out=problems.append)
    assert result.failed == 0, "".join(problems)
