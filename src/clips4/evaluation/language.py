"""Language-driven segmentation, scored by protocol ``clips4-v1``.

The picture is reduced to the model's own long side (``data.inference_side`` for a student, ``data.long_side`` for a
teacher alone) and read whole; cosines with the class vectors are upsampled (bilinear,
pixel centres) to the picture's own size, then argmax; the truth is never resized; no background class, no threshold, no
unknown answer; label 255 leaves intersection and union; one confusion matrix over the whole set.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from clips4.data.labelled import LabelledFolder
from clips4.evaluation.confusion import Scores, confusion_matrix, scores
from clips4.listening import Listener, Silent
from clips4.segmenter import Segmenter
from clips4.vocabulary import ClassList

PROTOCOL = "clips4-v1"


def score_language(
    segmenter: Segmenter, dataset: LabelledFolder, vectors: Mapping[str, Tensor], listener: Listener | None = None
) -> dict[str, Scores]:
    """Score several sets of class vectors in one pass over a labelled set.

    Args:
        segmenter: a student or a teacher alone.
        dataset: pictures and truth.
        vectors: by name, (K, D) unit rows in the order of ``dataset.classes``.

    Returns:
        Scores by the names of ``vectors``.
    """
    listener = listener or Silent()
    classes = len(dataset.classes)
    confusion = {name: np.zeros((classes, classes + 1), np.int64) for name in vectors}
    listener.stage("scoring", len(dataset))
    for _, picture, truth in dataset:
        read = segmenter.read(picture)
        for name, matrix in vectors.items():
            labels, _ = segmenter.label(read, matrix)
            confusion[name] += confusion_matrix(truth, labels.cpu().numpy(), classes)
        listener.advance({})
    return {name: scores(counts) for name, counts in confusion.items()}


def class_file_hash(classes: ClassList) -> str:
    """A short fingerprint of the class names and their words, to be stored with every score."""
    text = "\n".join(f"{name}: {', '.join(words)}" for name, words in zip(classes.names, classes.words, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
