"""ONNX files of students: what they hold besides the graph, and how to open them.

A file needs nothing of the run it came from. The graph:

    images  (batch, 3, height, width) float32 in [0, 1]     z        (batch, D, h, w) unit along D
    vectors (classes, D) float32 unit rows                  cosines  (batch, classes, h, w)

``metadata_props`` holds, as text, what a checkpoint's folder holds beside the student's weights:

    clips4.card        the checkpoint's card.json
    clips4.tensors     base64 of a safetensors file: prototypes.text (K, D), prototypes.known, prototypes.unknown, ...
    clips4.export      how it was made and checked: an ``ExportReport``
    class_names, long_side   for programs without clips4: JSON list of names, pixels to which images are reduced
"""

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from clips4.config import Config, saved_config
from clips4.errors import UserError
from clips4.models.checkpoint import Prototypes, prototypes_of

if TYPE_CHECKING:
    import onnxruntime

SUFFIX = ".onnx"
FORMAT = 1
_CARD, _TENSORS, _EXPORT = "clips4.card", "clips4.tensors", "clips4.export"


@dataclass(frozen=True)
class ExportedRun:
    """An ONNX file of a student, opened.

    Attributes:
        config: of the run.
        prototypes: its class vectors.
        card: the checkpoint's card.
        report: how the file was made and checked.
        session: ONNX Runtime's.
    """

    config: Config
    prototypes: Prototypes
    card: dict[str, Any]
    report: dict[str, Any]
    session: "onnxruntime.InferenceSession"


def to_metadata(
    card: dict[str, Any], tensors: dict[str, Tensor], report: dict[str, Any], long_side: int
) -> dict[str, str]:
    """``metadata_props`` of a file; see the module's text."""
    return {
        _CARD: json.dumps(card),
        _TENSORS: base64.b64encode(save(tensors)).decode("ascii"),
        _EXPORT: json.dumps({"format": FORMAT, **report}),
        "class_names": json.dumps(list(card["classes"])),
        "long_side": str(long_side),
    }


def open_exported(path: Path, device: str = "cpu", threads: int | None = None) -> ExportedRun:
    """Open an ONNX file that ``clips4 export`` wrote.

    Args:
        path: the file.
        device: "cpu", "cuda" or "cuda:N".
        threads: of ONNX Runtime on the CPU; as many as PyTorch uses by default.

    Raises:
        UserError: ONNX Runtime is not installed or has no such device; no such file, damaged, or not clips4's.
    """
    session = _session(path, device, threads)
    metadata = session.get_modelmeta().custom_metadata_map
    if _CARD not in metadata:
        raise UserError(f"{path}: an ONNX file, but not one that 'clips4 export' wrote")
    try:
        card, report = json.loads(metadata[_CARD]), json.loads(metadata[_EXPORT])
        if report["format"] != FORMAT:
            raise UserError(f"{path}: format {report['format']} of another version of clips4; export the run again")
        prototypes = prototypes_of(card, load(base64.b64decode(metadata[_TENSORS], validate=True)))
        config = saved_config(card["config"], str(path))
    except (KeyError, TypeError, ValueError, binascii.Error, SafetensorError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: damaged, or of another version of clips4 ({type(error).__name__}); export it again")
    return ExportedRun(config, prototypes, card, report, session)


def _session(path: Path, device: str, threads: int | None) -> "onnxruntime.InferenceSession":
    import torch

    ort = import_onnxruntime()
    if not path.is_file():
        raise UserError(f"{path}: no such file; 'clips4 export RUN --out {path.name}' writes one")
    where, _, number = device.partition(":")
    providers: list[Any] = ["CPUExecutionProvider"]
    if where == "cuda" and "CUDAExecutionProvider" in ort.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
    elif where != "cpu":
        raise UserError(f"device {device!r}: the installed ONNX Runtime has no provider for it; give --device cpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    try:
        return ort.InferenceSession(path, options, providers=providers)
    except Exception as error:  # its own classes, not exported by name
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise UserError(f"{path}: ONNX Runtime cannot read it ({_first_line(error)}); export the run again")


def import_onnxruntime() -> Any:
    """The module ``onnxruntime``.

    Raises:
        UserError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError("ONNX Runtime is not installed; pip install 'clips4[onnx]'")
    return onnxruntime


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
