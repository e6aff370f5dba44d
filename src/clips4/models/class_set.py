"""Named class sets of a run: class vectors corrected with examples, kept beside its checkpoints.

``RUN/class-sets/NAME.safetensors`` holds the vectors of one query, several for a class where segments of images are its
examples. ``clips4 serve`` writes it, ``--classes RUN/class-sets/NAME.safetensors`` takes it. It belongs to the class
vectors of one checkpoint; a digest of them is compared when it is read.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from clips4.errors import UserError
from clips4.models.checkpoint import Prototypes
from clips4.utils.atomic_io import write_atomically
from clips4.utils.cache import content_key
from clips4.utils.tensors import parse_tensors
from clips4.utils.text import parse_json, read_bytes

FOLDER, SUFFIX = "class-sets", ".safetensors"
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,63}")
_MAX_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class ClassSet:
    """Class vectors of a query.

    Attributes:
        names: (K,) of the classes.
        queried: (K,) the class names that each class stands for; none for one of examples alone.
        sources: (K,) where the vectors of each class come from.
        vectors: (L, D) unit rows.
        owner: (L,) int64, the class of each row.
        examples: (L,) bool, rows that are segments of images.
    """

    names: tuple[str, ...]
    queried: tuple[tuple[str, ...], ...]
    sources: tuple[str, ...]
    vectors: Tensor
    owner: Tensor
    examples: Tensor


def is_class_set(classes: object) -> bool:
    """Whether ``--classes`` names a file of this form."""
    return isinstance(classes, str | Path) and str(classes).endswith(SUFFIX)


def class_set_path(run: Path, name: str) -> Path:
    """The file of a run's class set.

    Raises:
        UserError: the name is not made of letters, digits, spaces, ``-`` and ``_``.
    """
    if not _NAME.fullmatch(name) or name != name.strip():
        raise UserError(f"class set {name[:80]!r}: give it a name of letters, digits, spaces, '-' and '_', at most 64")
    return run / FOLDER / f"{name}{SUFFIX}"


def class_set_names(run: Path) -> list[str]:
    """Names of a run's class sets, in alphabetical order."""
    return sorted(path.stem for path in (run / FOLDER).glob(f"*{SUFFIX}") if _NAME.fullmatch(path.stem))


def save_class_set(path: Path, given: ClassSet, prototypes: Prototypes) -> None:
    """Write a class set; an existing one of that name is replaced."""
    tensors = {"vectors": given.vectors, "owner": given.owner, "examples": given.examples}
    facts = {
        "format": FORMAT,
        "names": given.names,
        "queried": given.queried,
        "sources": given.sources,
        "model": class_vectors_digest(prototypes),
    }
    data = save({key: value.contiguous() for key, value in tensors.items()}, {"clips4": json.dumps(facts)})
    write_atomically(path, data)


def load_class_set(path: Path, prototypes: Prototypes | None) -> ClassSet:
    """Read a class set.

    Args:
        path: its file.
        prototypes: of the run that it is used with.

    Raises:
        UserError: no such file, damaged, or made with other class vectors.
    """
    data = read_bytes(path, _MAX_BYTES)
    try:
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")].decode(), str(path))
        facts = parse_json(header["__metadata__"]["clips4"], str(path))
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}")
        found = _parse(facts, parse_tensors(data, str(path)))
    except (UserError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: not a class set, or damaged ({reason}); save it again in clips4 serve")
    if prototypes is None or facts.get("model") != class_vectors_digest(prototypes):
        raise UserError(f"{path}: made with another run or checkpoint; open this one in clips4 serve and save it again")
    return found


def _parse(facts: dict[str, Any], tensors: dict[str, Tensor]) -> ClassSet:
    names, sources = (tuple(map(str, facts[key])) for key in ("names", "sources"))
    queried = tuple(tuple(map(str, each)) for each in facts["queried"])
    vectors, owner, examples = (tensors[key] for key in ("vectors", "owner", "examples"))
    rows = len(vectors)
    if vectors.ndim != 2 or owner.shape != (rows,) or examples.shape != (rows,) or not rows:
        raise ValueError("sizes differ")
    if not (len(names) == len(sources) == len(queried)) or sorted(set(owner.tolist())) != list(range(len(names))):
        raise ValueError("classes and vectors do not fit")
    if not vectors.isfinite().all():
        raise ValueError("values that are not finite")
    return ClassSet(names, queried, sources, vectors.float(), owner.long(), examples.bool())


def class_vectors_digest(prototypes: Prototypes) -> str:
    """What names the class vectors of a checkpoint; class sets belong to them."""
    return content_key(prototypes.queries().to(torch.float32).contiguous().numpy().tobytes())
