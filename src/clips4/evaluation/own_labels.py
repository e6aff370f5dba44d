"""`clips4 evaluate labels`: a run on a folder of the user's own labels, as `clips4 segment` would predict."""

from pathlib import Path
from typing import Any

import numpy as np

from clips4.annotations.folder import open_labels
from clips4.data.class_names import load_classes, named_classes
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.evaluation.metrics.confusion import SetScores, Tally, confusion_matrix
from clips4.evaluation.protocols import class_file_hash
from clips4.evaluation.record import provenance
from clips4.evaluation.run import set_rows
from clips4.inference.classifier import Query
from clips4.inference.examples import example_vectors
from clips4.inference.opening import Use
from clips4.inference.segmenter import Segmenter
from clips4.utils.progress import ProgressReporter, counted

PROTOCOL = "clips4-own-labels-v1"


def evaluate_labels(
    run: Path,
    labels: Path,
    class_file: str | None,
    examples: Path | None,
    device: str,
    progress: ProgressReporter,
    use: Use = "auto",
) -> dict[str, Any]:
    """Rows "prototypes", and "examples" if a folder of labeled examples is given.

    Args:
        run: as ``clips4 segment`` takes it.
        labels: see ``annotations.folder.open_labels``.
        class_file: class names in the order of label values; those of the run by default.
        examples: labeled images whose pixels stand for their classes; not those that are scored.
        device: "auto", "cpu", "cuda" or "mps".
        progress: advances once an image.
        use: "student", "teacher" or "auto", see ``Segmenter.load``.

    Raises:
        UserError: no labels of these classes, or a label map with other values.
    """
    segmenter = Segmenter.load(run, device, use=use)
    classes = named_classes(segmenter.query().names) if class_file is None else load_classes(class_file)
    dataset = open_labels(labels, classes)
    queries = {"prototypes": segmenter.query(classes)}
    if examples is not None:
        segmenter.classifier.examples = example_vectors(segmenter, open_labels(examples, classes), progress)
        queries["examples"] = segmenter.query(classes)
    scored = {name: _score(segmenter, dataset, query, progress) for name, query in queries.items()}
    return {
        "task": "labels",
        "dataset": str(labels),
        "split": "all",
        "images": len(dataset),
        "protocol": {
            "id": PROTOCOL,
            "predictions": "as clips4 segment makes them, without unknown",
            "truth": "never resized; pixels without a label are not scored",
            "averaging": "IoU per class from one confusion matrix over the set, mean over classes",
        },
        "classes_hash": class_file_hash(classes),
        "run": str(run),
        "examples": None if examples is None else str(examples),
        **provenance(),
        "rows": [set_rows(name, found, classes.names, frozenset()) for name, found in scored.items()],
    }


def _score(segmenter: Segmenter, dataset: LabeledFolder, query: Query, progress: ProgressReporter) -> SetScores:
    tally = Tally(len(dataset.classes))
    for _, image, truth in counted(progress, "scoring", dataset, len(dataset)):
        predicted = segmenter.predict(segmenter.encode_image(image), query, unknown=False).labels
        tally.add(confusion_matrix(truth, np.asarray(predicted, truth.dtype), len(dataset.classes)))
    return SetScores.collect(dataset.images, tally)
