"""What programs without clips4 need beside the graph, as JSON: class vectors, and the rules by which they are used.

``examples/onnx_plain.py`` follows these rules with ONNX Runtime, NumPy and Pillow alone.
"""

import base64
import json
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clips4.config import Config
from clips4.method.prototypes import BANK_NEAREST
from clips4.models.checkpoint import Prototypes
from clips4.models.sliding_window import MIN_SIDE, WIDEST, inference_size
from clips4.models.teachers.text.prompts import load_templates

_DTYPES = {"float16": "<f2", "float32": "<f4", "float64": "<f8"}
_LISTED = 2**17  # values; larger tensors are base64 of the numbers themselves, in a third of the space


def vectors_to_json(tensors: dict[str, Tensor]) -> str:
    """Tensors as JSON: name -> ``dtype``, ``shape``, and ``values`` in order; or ``base64`` of many, little-endian.

    Example:
        >>> vectors_to_json({"margin": torch.tensor([0.1, 2.0])})
        '{"margin": {"dtype": "float32", "shape": [2], "values": [0.1, 2.0]}}'
    """
    found: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        array = tensor.detach().cpu().numpy()
        facts = found[name] = {"dtype": str(array.dtype), "shape": list(array.shape)}
        if array.size > _LISTED:
            facts["base64"] = base64.b64encode(array.astype(_DTYPES[str(array.dtype)]).tobytes()).decode("ascii")
        else:  # the shortest decimals that are this number in its own precision
            facts["values"] = [float(str(value)) for value in array.ravel()]
    return json.dumps(found)


def vectors_from_json(document: dict[str, Any]) -> dict[str, Tensor]:
    """The reverse of ``vectors_to_json``, of its parsed document.

    Raises:
        ValueError: a type, shape or number that it does not write.
    """
    found = {}
    for name, facts in document.items():
        if not isinstance(facts, dict) or facts.get("dtype") not in _DTYPES:
            raise ValueError(f"{name}: no tensor of float16, float32 or float64")
        shape, dtype = facts.get("shape"), _DTYPES[facts["dtype"]]
        if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 2**31 for side in shape):
            raise ValueError(f"{name}: no shape")
        if "base64" in facts:
            values = np.frombuffer(base64.b64decode(facts["base64"], validate=True), dtype)
        else:
            listed = facts.get("values")
            if not isinstance(listed, list) or not all(type(value) in (int, float) for value in listed):
                raise ValueError(f"{name}: no list of numbers")
            values = np.array(listed, dtype)
        if values.size != math.prod(shape):
            raise ValueError(f"{name}: {values.size} values for shape {shape}")
        found[name] = torch.from_numpy(values.reshape(shape).astype(dtype[1:]))
    return found


def rules_of(config: Config, prototypes: Prototypes) -> dict[str, Any]:
    """How class vectors become labels; rows are named as [tensor, first, end].

    ``image``: an image is reduced to ``long_side`` pixels, bicubic; a wide one so that its short side has
    ``short_side`` (if not 0), up to ``widest`` long sides; enlarged where its short side is below ``min_side``.
    ``known`` and ``unknown``: rows of the classes and of unknown prototypes. ``unknown_margin``: a pixel is unknown
    where its largest cosine with unknown rows exceeds that with the classes' rows by more than the margin.
    ``rows_per_class``, in a run with ``prototypes.per_class=nearest`` alone: so many known rows belong to each class,
    and the nearest counts, in the context as well; the ``nearest`` rows of a new name are not averaged then.
    ``context``: see ``method.prediction_context``. ``new_names``: templates, the offset that is subtracted from text
    vectors, and the mean of the ``nearest`` rows of ``bank``, taken from ``averaged``, plus ``text_prior`` times the
    text vector.
    """
    count, (space, tau) = len(prototypes.known), (prototypes.space, config.objective.temperature)
    several = {"rows_per_class": prototypes.rows_per_class} if prototypes.per_class == "nearest" else {}
    fitted = prototypes.fitted is not None and prototypes.head_scale != 0
    size = inference_size(config.data)
    bank = prototypes.bank is not None and len(prototypes.bank) > 0
    seen = prototypes.query_bank is not None
    return {
        "image": {
            "long_side": size.long_side,
            "short_side": size.short_side,
            "widest": WIDEST,
            "min_side": MIN_SIDE,
        },
        "classes": list(prototypes.names),
        **several,
        "known": ["prototypes.fitted" if fitted else "prototypes.known", 0, count],
        "unknown": [
            "prototypes.fitted" if fitted else "prototypes.unknown",
            count if fitted else 0,
            len(prototypes.unknown) + (count if fitted else 0),
        ],
        "unknown_margin": prototypes.unknown_margin,
        "context": {
            "weight": config.extensions.prediction_context,
            "pixel_temperature": tau if space is None else space.pixel_temperature(tau),
            "text_temperature": tau if space is None else space.text_temperature(tau),
        },
        "new_names": {
            "templates": load_templates(config.teacher.templates),
            "text_offset": None if space is None else "space.text_offset",
            "bank": "prototypes.bank" if bank else None,
            "averaged": "prototypes.student_bank" if seen else "prototypes.bank",
            "nearest": BANK_NEAREST,
            "text_prior": prototypes.text_prior,
        },
    }
