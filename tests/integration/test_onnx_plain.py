"""``examples/onnx_plain.py``: an exported student without clips4 gives the labels of ``clips4 segment``."""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clips4 import Segmentation, Segmenter, load_classes, load_config
from clips4.cli.app import app
from clips4.cli.shell import run as run_command
from clips4.training.loop import train
from tests.helpers import TINY, photograph

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.slow  # exports the text encoder
PROGRAM = Path(__file__).parents[2] / "examples/onnx_plain.py"
AGREEMENT = 0.999  # share of pixels with equal labels; where two classes are equally near, rounding decides
NEAR = 1e-4  # of two cosines that count as the same
_NO_CLIPS4 = (
    "import runpy, sys; sys.modules['clips4'] = None; sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


@pytest.fixture(scope="module", params=["cpu", "recommended", "nearest"])
def run(
    request: pytest.FixtureRequest,
    tiny_run: Path,
    nearest_run: Path,
    images: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run of the preset ``cpu``; one with context, margin, calibrated space and text prior; several prototypes."""
    if request.param != "recommended":
        return {"cpu": tiny_run, "nearest": nearest_run}[request.param]
    settings = [each for each in TINY if not each.startswith(("student.", "data.", "prototypes.unknown"))]
    changed = ["data.crop=64", "data.long_side=96", "data.inference_side=96", "extensions.text_prior=0.5"]
    changed += ["train.precision=32-true", "extensions.prediction_context=0.5"]
    folder = tmp_path_factory.mktemp("recommended") / "run"
    config = load_config("recommended", [*settings, *changed])
    paths = sorted(images.iterdir())
    train(paths, load_classes("cat,cup,grass"), config, folder, device="cpu", report=False)
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "pets.onnx"
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert run_command(app, ["export", str(run), "--out", str(out), "--text", "--json"]) == 0
    report = json.loads(output.getvalue())
    assert report["bytes"] == out.stat().st_size
    assert report["text"] == [str(out.with_name(name)) for name in ("pets-text.onnx", "pets-tokenizer.json")]
    assert all(Path(path).is_file() for path in report["text"])
    return out


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("onnx_plain", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("size", [(72, 96), (20, 90), (300, 200), (301, 1000)])
def test_labels_of_the_run_equal_those_of_the_segmenter(
    plain: ModuleType, exported: Path, run: Path, size: tuple[int, int]
) -> None:
    image = np.array(photograph(*size, seed=3))
    expected = Segmenter.load(run, device="cpu").segment(image).labels
    assert (plain.segment(exported, image) == expected).mean() >= AGREEMENT


@pytest.mark.parametrize("names", [["zebra", "grass"], ["sofa", "lamp", "double-decker bus"]])
def test_labels_of_new_names_equal_those_of_the_segmenter(
    plain: ModuleType, exported: Path, run: Path, names: list[str]
) -> None:
    image = np.array(photograph(120, 160, seed=4))
    segmenter = Segmenter.load(run, device="cpu")
    _, rules, vectors = plain.load(exported)
    rows, _, _ = plain.class_rows(exported, names, rules, vectors)
    np.testing.assert_allclose(rows, segmenter.query(names).vectors.numpy(), atol=1e-4)
    expected, found = segmenter.segment(image, names), plain.segment(exported, image, names)
    assert (same_or_equally_near(found, expected)).mean() >= AGREEMENT


def test_scores_by_onnx_runtime_equal_those_of_torch(exported: Path, run: Path) -> None:
    image = np.array(photograph(120, 160, seed=6))
    by_torch, by_onnx = (Segmenter.load(each, device="cpu").segment(image) for each in (run, exported))
    np.testing.assert_allclose(by_onnx.similarity, by_torch.similarity, atol=1e-5)
    assert (by_onnx.labels == by_torch.labels).mean() >= AGREEMENT


def same_or_equally_near(labels: NDArray[np.integer], expected: Segmentation) -> NDArray[np.bool_]:
    """Where labels are equal, or both are classes with the same cosine: in a small bank two names find the same."""
    logits = np.log(expected.probabilities(1.0))
    theirs, ours = (np.take_along_axis(logits, np.maximum(each, 0)[None], 0)[0] for each in (expected.labels, labels))
    tie = (np.abs(ours - theirs) < NEAR) & (labels >= 0) & (expected.labels >= 0)
    return (labels == expected.labels) | tie


def test_program_runs_where_clips4_is_not_installed(exported: Path, run: Path, tmp_path: Path) -> None:
    photograph(seed=5).save(tmp_path / "photo.png")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    files = map(str, (PROGRAM, exported, tmp_path / "photo.png", tmp_path / "labels.png"))
    command = [sys.executable, "-c", _NO_CLIPS4, *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    labels = np.array(Image.open(tmp_path / "labels.png"))
    expected = Segmenter.load(run, device="cpu").segment(tmp_path / "photo.png").labels
    assert (labels == expected.astype(np.uint8)).mean() >= AGREEMENT
    assert "%" in done.stdout


def test_program_imports_nothing_of_clips4() -> None:
    lines = PROGRAM.read_text("utf-8").splitlines()
    imported = {line.split()[1].split(".")[0] for line in lines if line.strip().startswith(("import ", "from "))}
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL", "tokenizers"}


def test_new_names_without_the_text_encoder_raise(plain: ModuleType, exported: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(exported, tmp_path / "alone.onnx"))
    with pytest.raises(Exception, match="No such file"):
        plain.segment(alone, np.array(photograph()), ["zebra"])
