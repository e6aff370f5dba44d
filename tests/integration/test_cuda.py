"""A run on a CUDA device: it trains, segments there, and the CPU reads the same checkpoint with the same labels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clips4 import Segmenter, load_classes, load_config, train
from tests.helpers import TINY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_train_and_segment_on_cuda_agree_with_the_cpu(images: Path, tmp_path: Path, precision: str) -> None:
    paths, config = sorted(images.iterdir()), load_config("cpu", [*TINY, f"train.precision={precision}"])
    run = tmp_path / "run"
    assert train(paths, load_classes("cat,cup,grass"), config, run, device="cuda").steps == 2
    on_gpu, on_cpu = (Segmenter.load(run, device, "float32").segment(paths[0]) for device in ("cuda", "cpu"))
    assert np.mean(on_gpu.labels == on_cpu.labels) > 0.99
