"""The text encoder of the built-in teacher as an ONNX file with its tokenizer: new names without clips4.

    input_ids       (prompts, tokens) int64      text  (prompts, D) float32 unit rows, as the teacher encodes them
    attention_mask  (prompts, tokens) int64

The tokens are those of ``NAME-tokenizer.json``, which the package ``tokenizers`` reads. What becomes of the rows says
``clips4.rules`` of the student's file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clips4.errors import UserError
from clips4.models.checkpoint import load_checkpoint
from clips4.models.onnx.export import TOLERANCE, quiet_export
from clips4.models.onnx.metadata import import_onnxruntime
from clips4.models.teachers.base import load_teacher
from clips4.models.teachers.conse import ConseTeacher, SentenceEncoder, text_model_path
from clips4.utils.atomic_io import write_atomically

_CHECKED = ("a cat", "a photo of a red double-decker bus.", "zebra")


@dataclass(frozen=True)
class TextReport:
    """What was written.

    Attributes:
        model: the ONNX file.
        tokenizer: its tokenizer.
        bytes: of the ONNX file.
        difference: the largest to torch, of unit rows.
    """

    model: Path
    tokenizer: Path
    bytes: int
    difference: float


class _TextEncoder(nn.Module):
    """Tokens -> unit rows, as ``ConseTeacher.encode_text`` makes them of prompts."""

    center: Tensor

    def __init__(self, teacher: ConseTeacher):
        super().__init__()
        self.model, self.extra = teacher.sentences.model, teacher.embed_dim - teacher.text_center.shape[1]
        self.register_buffer("center", teacher.text_center)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        sentences = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
        return F.pad(F.normalize(sentences - self.center, dim=1), (0, self.extra))


def text_files(out: Path) -> tuple[Path, Path]:
    """The files of the text encoder and its tokenizer beside a student's file.

    Example:
        >>> [path.name for path in text_files(Path("pets.onnx"))]
        ['pets-text.onnx', 'pets-tokenizer.json']
    """
    return out.with_name(f"{out.stem}-text.onnx"), out.with_name(f"{out.stem}-tokenizer.json")


def export_text_encoder(run: str | Path, out: str | Path) -> TextReport:
    """Write the text encoder of a run's teacher beside its student.

    Args:
        run: folder of a run whose teacher is the built-in one.
        out: the student's file, ``NAME.onnx``; ``NAME-text.onnx`` and ``NAME-tokenizer.json`` are written beside it.

    Returns:
        What was written, and how it was checked.

    Raises:
        UserError: another teacher, a missing package, or a graph that differs from torch by more than ``TOLERANCE``.

    Example:
        >>> export_text_encoder("runs/pets", "pets.onnx").tokenizer.name  # doctest: +SKIP
        'pets-tokenizer.json'
    """
    out, config = Path(out), load_checkpoint(Path(run)).config.teacher
    teacher = load_teacher(config)
    if not isinstance(teacher, ConseTeacher):
        raise UserError(f"{run}: the text encoder of {config.name} is not exported; only that of conse is")
    model, tokenizer = text_files(out)
    encoder = _TextEncoder(teacher).eval()
    content = _graph(encoder)
    difference = _compare(content, teacher)
    if not difference <= TOLERANCE:
        raise UserError(f"{run}: the text encoder's graph differs from torch by {difference:.1e}; nothing was written")
    write_atomically(tokenizer, (text_model_path() / "tokenizer.json").read_bytes())
    write_atomically(model, content)
    return TextReport(model, tokenizer, len(content), difference)


def _graph(encoder: nn.Module) -> bytes:
    # sizes of two and more: a size of one would become a constant
    tokens, mask = torch.ones(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.long)
    mask[1, 3:] = 0  # without a padded prompt, transformers leaves the mask out of the graph
    open_sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with quiet_export(), torch.no_grad():
        program = torch.onnx.export(
            encoder,
            (tokens, mask),
            dynamo=True,
            verbose=False,
            input_names=["input_ids", "attention_mask"],
            output_names=["text"],
            dynamic_shapes=(open_sizes, open_sizes),
            external_data=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def _compare(content: bytes, teacher: ConseTeacher) -> float:
    """The largest difference between the graph and torch, of prompts together and one by one."""
    session = import_onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for prompts in (_CHECKED, *((each,) for each in _CHECKED)):
        found = session.run(["text"], _tokens(teacher.sentences, prompts))[0]
        worst = float(np.maximum(worst, np.abs(found - teacher.encode_text(prompts).numpy()).max()))
    return worst


def _tokens(encoder: SentenceEncoder, prompts: tuple[str, ...]) -> dict[str, Any]:
    tokens = cast(dict[str, Any], encoder.tokenizer(list(prompts), padding=True, return_tensors="np"))
    return {name: tokens[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
