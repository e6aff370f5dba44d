"""ONNX files of students: what they hold besides the graph, and how to open them.

A file needs nothing of the run it came from. The graph:

    images  (batch, 3, height, width) float32 in [0, 1]     z        (batch, D, h, w) unit along D
    vectors (classes, D) float32 unit rows                  cosines  (batch, classes, h, w)

``metadata_props`` holds, as text, what a checkpoint's folder holds beside the student's weights:

    clips4.card        the checkpoint's card.json
    clips4.vectors     prototypes.text (K, D), prototypes.known, prototypes.unknown, ..., see ``rules.vectors_to_json``
    clips4.rules       how programs without clips4 use them, see ``rules.rules_of``
    clips4.export      how it was made and checked: an ``ExportReport``
    class_names, long_side, short_side   for programs without clips4: JSON list of names, and the ``InferenceSize``
    clips4.sha256      digest of all bytes before this entry, which is the file's last

A file whose digest does not fit, or that names files beside it (external data), is refused.
"""

import base64
import hashlib
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from clips4.config import Config, saved_config
from clips4.errors import UserError
from clips4.models.card import parse_card
from clips4.models.checkpoint import Prototypes, prototypes_of
from clips4.models.onnx.rules import vectors_from_json, vectors_to_json
from clips4.models.sliding_window import InferenceSize
from clips4.utils.tensors import parse_tensors
from clips4.utils.text import parse_json, read_bytes

if TYPE_CHECKING:
    import onnxruntime

SUFFIX = ".onnx"
FORMAT = 3  # format 2 held the vectors as safetensors, format 1 had no digest
MAX_BYTES = 2**31  # protobuf's own limit
_SEAL, _DIGITS = b"clips4.sha256", 64
_CARD, _VECTORS, _RULES, _EXPORT = "clips4.card", "clips4.vectors", "clips4.rules", "clips4.export"
_TENSORS = "clips4.tensors"  # until format 2: base64 of a safetensors file


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
    card: dict[str, Any],
    tensors: dict[str, Tensor],
    report: dict[str, Any],
    size: InferenceSize,
    rules: dict[str, Any],
) -> dict[str, str]:
    """``metadata_props`` of a file; see the module's text."""
    return {
        _CARD: json.dumps(card),
        _VECTORS: vectors_to_json(tensors),
        _RULES: json.dumps(rules),
        _EXPORT: json.dumps({"format": FORMAT, **report}),
        "class_names": json.dumps(list(card["classes"])),
        "long_side": str(size.long_side),
        "short_side": str(size.short_side),
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
    try:
        metadata = session.get_modelmeta().custom_metadata_map  # decodes text
        report, card = (parse_json(metadata[key], key) for key in (_EXPORT, _CARD))
        checked = parse_card(card, _CARD)
        config = saved_config(checked.config, _CARD)
        if _VECTORS in metadata:
            tensors = vectors_from_json(parse_json(metadata[_VECTORS], _VECTORS))
        else:
            tensors = parse_tensors(base64.b64decode(metadata[_TENSORS], validate=True), _TENSORS)
        prototypes = prototypes_of(checked, config, tensors)
    except (KeyError, ValueError) as error:  # of base64, and UserError
        raise UserError(f"{path}: damaged, or of another version of clips4 ({error}); export the run again")
    return ExportedRun(config, prototypes, card, report, session)


def seal(graph: bytes) -> bytes:
    """The bytes of a ``ModelProto`` with its last metadata entry, the digest of all others.

    A serialized message may be extended by appending a field: here ``metadata_props``, number 14.
    """
    value = hashlib.sha256(graph).hexdigest().encode()
    entry = b"".join(bytes([tag, len(text)]) + text for tag, text in ((0x0A, _SEAL), (0x12, value)))
    return graph + bytes([14 << 3 | 2, len(entry)]) + entry


def check_graph(path: Path) -> None:
    """Refuse a file that is not whole, not clips4's, or leads to other files.

    Raises:
        UserError: it is; or the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise UserError("ONNX files need the package onnx; pip install 'clips4[onnx]'")
    data = read_bytes(path, MAX_BYTES)
    length = len(seal(b""))
    if seal(data[:-length]) != data:
        ours = _CARD.encode() in data
        why = "changed, or written by an earlier version" if ours else "damaged, or not one that 'clips4 export' wrote"
        raise UserError(f"{path}: {why}; export the run again")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own class
        raise UserError(f"{path}: not readable as ONNX ({type(error).__name__}); export the run again")
    if _has_external_data(model):
        raise UserError(f"{path}: has data in other files, which are never read; export the run again")


def _has_external_data(message: Any) -> bool:
    """Whether a tensor anywhere in a protobuf message lies in another file."""
    if getattr(message, "data_location", 0) or getattr(message, "external_data", ()):
        return True
    for field, value in message.ListFields():
        if field.message_type is not None:
            parts = [value] if hasattr(value, "ListFields") else value
            if any(_has_external_data(part) for part in parts):
                return True
    return False


def _session(path: Path, device: str, threads: int | None) -> "onnxruntime.InferenceSession":
    import torch

    ort = import_onnxruntime()
    if not path.exists():
        raise UserError(f"{path}: no such file; 'clips4 export' writes one")
    check_graph(path)
    where, _, number = device.partition(":")
    providers: list[Any] = ["CPUExecutionProvider"]
    if where == "cuda" and "CUDAExecutionProvider" in ort.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
    elif where != "cpu":
        raise UserError(f"device {device!r}: the installed ONNX Runtime has no provider for it; give cpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    try:
        with redirect_stdout(StringIO()):  # what it prints of damaged files
            session = ort.InferenceSession(path, options, providers=providers)
        inputs = {each.name for each in session.get_inputs()}
        outputs = [each.name for each in session.get_outputs()]
    except Exception as error:  # its own classes, not exported by name, and Python's
        raise UserError(f"{path}: ONNX Runtime cannot read it ({_first_line(error)}); export the run again")
    if inputs != {"images", "vectors"} or outputs[:1] != ["z"]:
        raise UserError(f"{path}: its graph has other inputs or outputs than a student's; export the run again")
    return session


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
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
