"""A run whose teacher adds a dimension for its confidence, from training to predictions."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data
from typer.testing import CliRunner

from clips4.cli.app import app
from clips4.inference.segmenter import Segmenter
from clips4.method.prototypes import text_dimensions
from clips4.models.checkpoint import load_checkpoint
from tests.helpers import TINY, photograph

pytestmark = pytest.mark.slow  # trains on real photographs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("confidence")
    (folder / "photos").mkdir()
    for name, image in (("cat", data.chelsea()), ("cup", data.coffee()), ("rocket", data.rocket())):
        Image.fromarray(image).save(folder / "photos" / f"{name}.png")
    more = [
        "data.long_side=256",
        "teacher.confidence_dim=true",
        "extensions.unknown_apart=true",
        "extensions.unknown_share=0.35",
        "prototypes.unknown_step=0",
    ]
    settings = [part for override in [*TINY, *more] for part in ("--set", override)]
    command = [
        "train",
        "--preset",
        "cpu",
        str(folder / "photos"),
        "--classes",
        "cat,sky,tree",
        "--out",
        str(folder / "run"),
    ]
    result = CliRunner().invoke(app, [*command, "--device", "cpu", *settings])
    assert result.exit_code == 0, result.output
    return folder / "run"


def test_confidence_dim_only_unknown_prototypes_use_it(run: Path) -> None:
    prototypes = load_checkpoint(run).prototypes
    assert prototypes.text.shape == (3, 385)
    assert text_dimensions(prototypes.text).tolist() == [True] * 384 + [False]
    for names in (prototypes.text, prototypes.known, prototypes.query_known):
        assert not names[:, -1].any()
        torch.testing.assert_close(names.norm(dim=1), torch.ones(3))
    assert prototypes.bank is not None
    assert (prototypes.bank[:, -1] > 0.1).any(), "the case is too easy: full confidence everywhere"
    everything = torch.cat([prototypes.unknown, prototypes.bank.float()])
    torch.testing.assert_close(everything.norm(dim=1), torch.ones(len(everything)), rtol=0, atol=1e-3)


def test_unknown_step_zero_keeps_unknown_prototypes(run: Path) -> None:
    drawn = load_file(run / "prepared" / "prototypes.safetensors")["unknown"]
    assert len(drawn) > 0
    torch.testing.assert_close(load_checkpoint(run).prototypes.unknown, drawn)


def test_confidence_dim_run_segments_known_and_new_classes(run: Path) -> None:
    segmenter = Segmenter.load(run, device="cpu")
    image = photograph(seed=0)
    for classes in (None, ["cat", "violin"]):
        result = segmenter.segment(image, classes)
        assert result.labels.shape == (image.height, image.width)
