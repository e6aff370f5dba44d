"""Students run by ONNX Runtime: a ``PixelEncoder`` for the Segmenter."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clips4.errors import UserError
from clips4.models.checkpoint import WEIGHTS, load_checkpoint
from clips4.models.onnx.metadata import SUFFIX, ExportedRun, open_exported
from clips4.utils.cache import cache_root

if TYPE_CHECKING:
    import onnxruntime


class OnnxEncoder:
    """(B, 3, H, W) in [0, 1] -> (B, D, h, w) unit along D, by ONNX Runtime; may be called from several threads.

    A pickled one holds the path of its file, which is opened again.

    Attributes:
        stride: pixels per position of the map.
    """

    def __init__(
        self,
        session: "onnxruntime.InferenceSession",
        embed_dim: int,
        stride: int,
        path: Path | None = None,
        device: str = "cpu",
    ):
        self._session, self.stride, self._file = session, stride, (path, device)
        # z does not depend on the class vectors, but the graph has them as an input
        self._no_classes = np.zeros((1, embed_dim), np.float32)

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_session"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__ |= state
        path, device = self._file
        assert path is not None, "an encoder of a session alone cannot be pickled"
        self._session = open_exported(path, device).session

    def __call__(self, images: Tensor) -> Tensor:
        given = {"images": images.detach().float().cpu().numpy(), "vectors": self._no_classes}
        try:
            (z,) = self._session.run(["z"], given)
        except Exception as error:  # its own classes, not exported by name
            raise UserError(f"ONNX Runtime cannot run this graph ({type(error).__name__}); export the run again")
        return torch.from_numpy(z).to(images.device)


def is_exported(path: str | Path) -> bool:
    """Whether this names an ONNX file."""
    return str(path).endswith(SUFFIX)


def load_onnx(source: Path, device: str = "cpu") -> tuple[OnnxEncoder, ExportedRun]:
    """The encoder of an ONNX file, or of a run, which is exported to the cache at its first use.

    Args:
        source: a file that ``clips4 export`` wrote, or a run's folder.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: see ``open_exported`` and ``export.export_onnx``.
    """
    path = source if is_exported(source) else _cached_export(source)
    exported = open_exported(path, device)
    embed_dim, stride = exported.prototypes.known.shape[1], exported.config.student.stride
    return OnnxEncoder(exported.session, embed_dim, stride, path.absolute(), device), exported


def _cached_export(run: Path) -> Path:
    """The ONNX file of a run's newest checkpoint, kept by what its files hold."""
    from clips4.models.onnx.export import export_onnx
    from clips4.models.onnx.metadata import FORMAT

    if run.is_file():
        raise UserError(f"{run}: neither a run's folder nor a file ending in {SUFFIX}")
    checkpoint = load_checkpoint(run)
    digest = hashlib.sha256(repr((FORMAT, torch.__version__, sorted(checkpoint.card.items()))).encode())
    with (checkpoint.path / WEIGHTS).open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    path = cache_root() / "onnx" / f"{digest.hexdigest()[:24]}{SUFFIX}"
    if not path.is_file():
        export_onnx(checkpoint, path)
    return path
