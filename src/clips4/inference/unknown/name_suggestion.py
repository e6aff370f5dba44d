"""Suggested names for unknown classes: the nouns whose text vectors lie nearest to an unknown prototype.

Text vectors lie far from pixel vectors, all in one direction (the modality gap: Liang et al., "Mind the Gap", NeurIPS
2022), so that the cosine of a prototype c and a noun t measures that direction more than the noun. Both are centered on
the means of their own kind:

    score = cos(c - mean of the training segments, t - mean of the vocabulary)

The vocabulary is ``assets/nouns.txt``: some thousand nouns for visible things (see ``benchmarks/nouns.py``).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.data.class_names import ClassList, data_lines
from clips4.inference.classifier import ZeroShotClassifier
from clips4.models.checkpoint import Prototypes


class Suggestion(NamedTuple):
    """A possible name of an unknown class, and its score in [-1, 1]."""

    name: str
    score: float


def nouns() -> list[str]:
    """The shipped vocabulary, in alphabetical order."""
    return data_lines("nouns.txt")


@torch.no_grad()
def name_scores(vectors: Tensor, text: Tensor, segments: Tensor) -> Tensor:
    """How well each noun names each vector.

    Args:
        vectors: (U, D) unit rows in the teacher's pixel space.
        text: (V, D) unit rows, text vectors of a whole vocabulary.
        segments: (S, D) unit rows in the pixel space, a sample of the pixel space.

    Returns:
        (U, V) cosines after subtracting each kind's mean, in [-1, 1].
    """
    here = F.normalize(vectors - segments.mean(0), dim=1)
    there = F.normalize(text - text.mean(0), dim=1)
    return here @ there.T


def suggest_names(
    classifier: ZeroShotClassifier, prototypes: Prototypes, count: int = 5, vocabulary: Sequence[str] | None = None
) -> list[list[Suggestion]]:
    """Names for each unknown prototype of a run, best first; never the name of a class that the run knows.

    Args:
        classifier: finds text vectors; those of the vocabulary are cached on disk.
        prototypes: of the run. Without a bank of segments, the mean of its prototypes is subtracted.
        count: names per prototype.
        vocabulary: nouns instead of ``nouns()``.

    Returns:
        (U,) lists of at most ``count``.
    """
    known = {alias.casefold() for aliases in prototypes.classes.aliases for alias in aliases}
    known |= {name.casefold() for name in prototypes.names}
    candidates = list(nouns() if vocabulary is None else dict.fromkeys(vocabulary))
    text = classifier.text(ClassList(tuple(candidates), tuple((noun,) for noun in candidates)))
    allowed = torch.tensor([index for index, noun in enumerate(candidates) if noun.casefold() not in known])
    segments = prototypes.bank if prototypes.bank is not None and len(prototypes.bank) else prototypes.all()
    scores = name_scores(prototypes.unknown.float(), text, segments.float())[:, allowed]
    best = scores.topk(min(count, len(allowed)), dim=1)
    return [
        [Suggestion(candidates[allowed[place]], value) for value, place in zip(values, places, strict=True)]
        for values, places in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
