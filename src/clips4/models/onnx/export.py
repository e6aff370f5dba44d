"""A run's student as an ONNX file, for any number and size of images (``metadata`` documents the file).

Class vectors are an input, so classes can change after the export. The graph comes from ``torch.export`` and torch's
ONNX exporter, without TorchScript, and is compared with torch before anything is written.
"""

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from clips4.data.image_folder import find_images
from clips4.errors import UserError
from clips4.models.checkpoint import WEIGHTS, Checkpoint, load_checkpoint
from clips4.models.onnx.metadata import import_onnxruntime, seal, to_metadata
from clips4.models.onnx.quantize import Agreement, quantize
from clips4.models.onnx.rules import rules_of
from clips4.models.sliding_window import inference_size
from clips4.utils.atomic_io import write_atomically
from clips4.utils.extras import versions

TOLERANCE = 1e-4  # largest difference to torch that an export may show
_SIZES = ((1, 33, 47), (2, 97, 160), (1, 224, 213), (1, 448, 448))  # (B, H, W) of the check; odd sides too
_OPEN = {"images": {0: "batch", 2: "height", 3: "width"}, "vectors": {0: "classes"}}  # sizes left open, by axis
_STUDENT = "student."


class StudentWithClassifier(nn.Module):
    """Images (B, 3, H, W) and class vectors (L, D) -> z (B, D, h, w) and cosines (B, L, h, w), in one graph."""

    def __init__(self, student: nn.Module):
        super().__init__()
        self.student = student

    def forward(self, images: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        z = self.student(images)
        return z, torch.einsum("bdhw,ld->blhw", z, vectors)


@dataclass(frozen=True)
class ExportReport:
    """What was written and how it was checked.

    Attributes:
        file: name of the file.
        bytes: its size, metadata included.
        opset: version of ONNX's operators.
        precision: "float32" or "int8".
        sizes: (B, H, W) on which the float32 graph was compared with torch.
        difference: the largest difference found there, of z and of cosines.
        agreement: of int8 with float32; None for float32.
        versions: of the packages that made it.
    """

    file: str
    bytes: int
    opset: int
    precision: str
    sizes: tuple[tuple[int, int, int], ...]
    difference: float
    agreement: Agreement | None
    versions: dict[str, str]


def export_onnx(
    run: str | Path | Checkpoint,
    out: str | Path,
    calibration: str | Path | Iterable[str | Path] | None = None,
    text: bool = False,
) -> ExportReport:
    """Write the student of a run as an ONNX file.

    Args:
        run: its folder, or a loaded checkpoint.
        out: the file; an existing one is replaced only after the new one is complete and checked.
        calibration: images for int8, or a folder of them (see ``quantize``); None exports float32.
        text: whether to write the text encoder beside it, so that programs without clips4 find rows of new names, see
            ``text_encoder.export_text_encoder``; of the built-in teacher alone, about 90 MB.

    Returns:
        What was written, and how it was checked.

    Raises:
        UserError: packages of the extra ``onnx`` are missing, the graph cannot be exported or differs from torch by
            more than ``TOLERANCE``, ``out`` cannot be written to, or no calibration image can be read.

    Example:
        >>> report = export_onnx("runs/pets", "pets.onnx")
        >>> report.file, report.precision, report.difference < 1e-4
        ('pets.onnx', 'float32', True)
    """
    out = Path(out)
    checkpoint = run if isinstance(run, Checkpoint) else load_checkpoint(Path(run))
    if out.is_dir():
        raise UserError(f"{out}: is a folder; give a file, e.g. {out / 'model.onnx'}")
    if text:
        from clips4.models.onnx.text_encoder import export_text_encoder

        export_text_encoder(checkpoint.path, out)
    proto, difference = checked_graph(checkpoint)
    size, agreement = inference_size(checkpoint.config.data), None
    if calibration is not None:
        proto, agreement = quantize(proto, find_images(calibration), size, checkpoint.prototypes)
    report = ExportReport(
        file=out.name,
        bytes=0,
        opset=max(each.version for each in proto.opset_import if each.domain in ("", "ai.onnx")),
        precision="float32" if calibration is None else "int8",
        sizes=_SIZES,
        difference=difference,
        agreement=agreement,
        versions={**versions(), **_onnx_versions()},
    )
    card = {key: value for key, value in checkpoint.card.items() if key != "files"}  # digests of files not in here
    facts = {key: value for key, value in asdict(report).items() if key != "bytes"}  # the file does not hold its size
    rules = rules_of(checkpoint.config, checkpoint.prototypes)
    metadata = to_metadata(card, _class_tensors(checkpoint.path), facts, size, rules)
    for key, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    content = seal(proto.SerializeToString())
    write_atomically(out, content)
    return replace(report, bytes=len(content))


def checked_graph(checkpoint: Checkpoint) -> tuple[Any, float]:
    """The ONNX ``ModelProto`` of a run's student, float32, and its largest difference to torch.

    Raises:
        UserError: see ``export_onnx``.
    """
    model = StudentWithClassifier(checkpoint.student).eval()
    proto = to_proto(model, checkpoint.student.embed_dim)
    difference = compare(model, proto.SerializeToString(), checkpoint.student.embed_dim)
    if not difference <= TOLERANCE:
        raise UserError(
            f"{checkpoint.path}: the exported graph differs from torch by {difference:.1e} (allowed: {TOLERANCE:.0e}); "
            "nothing was written"
        )
    return proto, difference


def to_proto(model: StudentWithClassifier, embed_dim: int) -> Any:
    """The ONNX ``ModelProto`` of a student with sizes left open.

    Raises:
        UserError: onnx or onnxscript are not installed, or the network has something that cannot be exported.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"export needs the package {error.name}; pip install 'clips4[onnx]'")
    device = next(model.parameters()).device
    # sizes of two: a size of one would become a constant
    example = torch.rand(2, 3, 160, 224, device=device), torch.rand(2, embed_dim, device=device)
    # not named here: the exporter rejects named sizes over its guards and traces the network again
    open_sizes = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in _OPEN.values())
    try:
        with quiet_export(), torch.no_grad():
            program = torch.onnx.export(
                model,
                example,
                dynamo=True,
                verbose=False,
                input_names=list(_OPEN),
                output_names=["z", "cosines"],
                dynamic_shapes=open_sizes,
                external_data=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), "")
        raise UserError(f"this student cannot be exported by PyTorch {torch.__version__} ({reason.strip()})")
    assert program is not None
    return _name_sizes(program.model_proto)


def _name_sizes(proto: Any) -> Any:
    """The exporter's names of open sizes (s34, ...) replaced by ours everywhere."""
    names = {
        given.type.tensor_type.shape.dim[axis].dim_param: name
        for given in proto.graph.input
        for axis, name in _OPEN[given.name].items()
    }
    symbol = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")
    for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.HasField("dim_param"):
                size.dim_param = symbol.sub(lambda found: names[found[1]], size.dim_param)
    return proto


def compare(model: StudentWithClassifier, graph: bytes, embed_dim: int, seed: int = 0) -> float:
    """The largest difference between torch and ONNX Runtime, of z and of cosines, on random images of ``_SIZES``."""
    ort = import_onnxruntime()
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    random = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    worst = 0.0
    for number, (batch, height, width) in enumerate(_SIZES):
        images = torch.rand(batch, 3, height, width, generator=random)
        vectors = F.normalize(torch.randn(number + 1, embed_dim, generator=random), dim=1)
        with torch.no_grad():
            ours = model(images.to(device), vectors.to(device))
        theirs = session.run(["z", "cosines"], {"images": images.numpy(), "vectors": vectors.numpy()})
        for a, b in zip(ours, theirs, strict=True):
            if tuple(a.shape) != b.shape:
                return float("inf")
            # numpy's maximum keeps NaN, which no tolerance passes
            worst = float(np.maximum(worst, np.abs(a.cpu().numpy() - b).max()))
    return worst


def _class_tensors(checkpoint: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint but the student's weights."""
    with safe_open(checkpoint / WEIGHTS, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys() if not key.startswith(_STUDENT)}  # noqa: SIM118


def _onnx_versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("onnx", "onnxruntime", "onnxscript")}


@contextmanager
def quiet_export() -> Iterator[None]:
    """Silence the exporter's messages about optional packages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
