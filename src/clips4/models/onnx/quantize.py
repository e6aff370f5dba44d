"""int8 students: static quantization by ONNX Runtime, calibrated on images, with the loss of agreement it costs."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clips4.errors import UserError
from clips4.models.checkpoint import Prototypes
from clips4.models.onnx.metadata import import_onnxruntime
from clips4.models.sliding_window import InferenceSize, at_inference_size
from clips4.utils.images import load_rgb

MAX_IMAGES = 64  # at most; ranges settle after a few dozen
_HELD_OUT = 4  # every fourth image is kept for measuring the agreement


@dataclass(frozen=True)
class Agreement:
    """How far an int8 student agrees with the float32 one.

    Attributes:
        images: number of images compared.
        held_out: whether none of them was used to calibrate.
        same_label: share of pixel embeddings whose nearest class is the same, in [0, 1].
        cosine: mean cosine between the two embeddings of a pixel.
    """

    images: int
    held_out: bool
    same_label: float
    cosine: float


def quantize(proto: Any, images: Sequence[Path], size: InferenceSize, prototypes: Prototypes) -> tuple[Any, Agreement]:
    """An int8 version of a student's graph, and how far it agrees with the float one.

    Convolutions get int8 weights by channel and uint8 activations, whose ranges are those seen on the calibration
    images. The first convolution and depthwise ones stay in float32, since their channels differ most in range and they
    have few weights; so does what follows the head's last convolution.

    Args:
        proto: float32 ``ModelProto``, as ``export.to_proto`` makes it.
        images: a few dozen typical ones; evenly sampled, at most ``MAX_IMAGES``. Every fourth is held out and
            used for the agreement (with fewer than four, all are used for both, and ``held_out`` is False).
        size: they are reduced to this.
        prototypes: of the run; the agreement compares nearest classes.

    Raises:
        UserError: none of the images can be read.
    """
    ort = import_onnxruntime()
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    loaded = _load(images, size)
    held_out = loaded[_HELD_OUT - 1 :: _HELD_OUT]
    calibrating = [each for number, each in enumerate(loaded) if number % _HELD_OUT != _HELD_OUT - 1] or loaded
    embed_dim = prototypes.known.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        whole, folded, small = (Path(folder) / name for name in ("float.onnx", "folded.onnx", "int8.onnx"))
        onnx.save(proto, whole)
        # folds batch norms into convolutions; shapes are open, so they cannot all be inferred
        quant_pre_process(whole, folded, skip_symbolic_shape=True)
        convolutions = [node for node in onnx.load(folded).graph.node if node.op_type == "Conv"]
        quantize_static(
            folded,
            small,
            _Calibration(calibrating, embed_dim),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[n.name for i, n in enumerate(convolutions) if i == 0 or _is_depthwise(n)],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        result = onnx.load(small)
        exact, quantized = (ort.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (whole, small))
        return result, measure_agreement(exact, quantized, held_out or loaded, prototypes, bool(held_out))


def _is_depthwise(convolution: Any) -> bool:
    return any(each.name == "group" and each.i > 1 for each in convolution.attribute)


def measure_agreement(
    exact: Any, small: Any, images: Sequence[NDArray[np.float32]], prototypes: Prototypes, held_out: bool
) -> Agreement:
    """Compare sessions on images (1, 3, H, W): share of equal nearest classes, known and unknown, and mean cosine."""
    vectors, groups = prototypes.queries().float().numpy(), prototypes.groups
    class_of = np.arange(len(vectors)) if groups is None else groups.numpy()
    same = total = 0
    cosine = 0.0
    for image in images:
        (za, ca), (zb, cb) = (s.run(["z", "cosines"], {"images": image, "vectors": vectors}) for s in (exact, small))
        same += int((class_of[ca.argmax(1)] == class_of[cb.argmax(1)]).sum())
        cosine += float((za * zb).sum())
        total += za.shape[2] * za.shape[3]
    return Agreement(len(images), held_out, same / total, cosine / total)


class _Calibration:
    """What ``quantize_static`` reads its images from (a ``CalibrationDataReader``, which is only a protocol)."""

    def __init__(self, images: Sequence[NDArray[np.float32]], embed_dim: int):
        self._images = iter(images)
        self._vectors = np.eye(1, embed_dim, dtype=np.float32)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self._images, None)
        return None if image is None else {"images": image, "vectors": self._vectors}

    def set_range(self, start_index: int, end_index: int) -> None:
        raise NotImplementedError("calibration reads all images at once")


def _load(images: Sequence[Path], size: InferenceSize) -> list[NDArray[np.float32]]:
    """(1, 3, H, W) each, of those that can be read."""
    chosen = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, MAX_IMAGES).round().astype(int))]
    loaded, reasons = [], []
    for path in chosen:
        try:
            loaded.append(at_inference_size(load_rgb(path), size).to(torch.float32).numpy())
        except UserError as error:
            reasons.append(str(error))
    if not loaded:
        raise UserError(f"none of {len(chosen)} calibration images can be read; the first: {reasons[0]}")
    return loaded
