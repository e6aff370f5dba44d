"""torch.hub: ``torch.hub.load("owner/clips4", "segmenter", "runs/pets")``, or ``source="local"`` from a checkout."""

import sys
from pathlib import Path
from typing import Any

dependencies = ["torch", "numpy", "PIL", "scipy", "skimage", "transformers", "safetensors", "pydantic", "yaml"]

try:
    import clips4  # noqa: F401
except ImportError:  # downloaded by torch.hub, not installed
    sys.path.insert(0, str(Path(__file__).parent / "src"))


def segmenter(run: str, device: str = "auto", **options: Any) -> Any:
    """A ``clips4.Segmenter`` with the student of a run.

    Args:
        run: folder of a run, hub id ``owner/name[@revision]``, or .onnx file.
        device: "auto", "cpu", "cuda", "mps".
        options: further arguments of ``clips4.Segmenter.load``.
    """
    from clips4 import Segmenter

    return Segmenter.load(run, device, **options)


def student(run: str) -> Any:
    """The pixel embedding network alone: a ``torch.nn.Module``, (B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D.

    Args:
        run: folder of a run, or hub id ``owner/name[@revision]``.
    """
    from clips4.models.checkpoint import load_checkpoint
    from clips4.models.hub import fetch_run

    return load_checkpoint(fetch_run(run)).student
