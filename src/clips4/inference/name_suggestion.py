"""Names for what nobody named: words of a vocabulary that lie nearest to an unknown prototype.

Text vectors lie far from pixel vectors, all on the same side of them (the modality gap: Liang et al., "Mind the Gap",
NeurIPS 2022), so that the cosine of a prototype c and a word t says more about the side than about the word. Both are
compared as they differ from the means of their own kind:

    score = cos(c - mean of the training segments, t - mean of the vocabulary)

The vocabulary is ``assets/nouns.txt``: some thousand nouns for what can be seen (see ``benchmarks/nouns.py``).
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
    """A name that an unknown class may bear, and how near it lies, in [-1, 1]."""

    name: str
    score: float


def nouns() -> list[str]:
    """The shipped vocabulary, in alphabetical order."""
    return data_lines("nouns.txt")


@torch.no_grad()
def name_scores(vectors: Tensor, words: Tensor, segments: Tensor) -> Tensor:
    """How well each word names each vector.

    Args:
        vectors: (U, D) unit rows in the teacher's pixel space.
        words: (V, D) unit rows, text vectors of a whole vocabulary.
        segments: (S, D) unit rows in the pixel space, a sample of what there is.

    Returns:
        (U, V) cosines after each kind's mean is taken off, in [-1, 1].
    """
    here = F.normalize(vectors - segments.mean(0), dim=1)
    there = F.normalize(words - words.mean(0), dim=1)
    return here @ there.T


def suggest_names(
    classifier: ZeroShotClassifier, prototypes: Prototypes, count: int = 5, vocabulary: Sequence[str] | None = None
) -> list[list[Suggestion]]:
    """Names for each unknown prototype of a run, best first; never a word of a class that the run knows.

    Args:
        asker: puts words into vectors; the vocabulary's are kept on disk.
        prototypes: of the run. Without a bank of segments, its prototypes stand for the pixel space.
        count: names of each.
        vocabulary: other words than ``nouns()``.

    Returns:
        (U,) lists of at most ``count``.
    """
    known = {word.casefold() for words in prototypes.classes.words for word in words}
    known |= {name.casefold() for name in prototypes.names}
    words = list(nouns() if vocabulary is None else dict.fromkeys(vocabulary))
    text = classifier.text(ClassList(tuple(words), tuple((word,) for word in words)))
    allowed = torch.tensor([index for index, word in enumerate(words) if word.casefold() not in known])
    segments = prototypes.bank if prototypes.bank is not None and len(prototypes.bank) else prototypes.all()
    scores = name_scores(prototypes.unknown.float(), text, segments.float())[:, allowed]
    best = scores.topk(min(count, len(allowed)), dim=1)
    return [
        [Suggestion(words[allowed[place]], value) for value, place in zip(values, places, strict=True)]
        for values, places in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
