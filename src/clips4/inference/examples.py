"""Class vectors from a few labeled images."""

from torch import Tensor

from clips4.data.segmentation_dataset import LabeledFolder
from clips4.inference.segmenter import Segmenter
from clips4.method.labeled_prototypes import labeled_prototypes
from clips4.utils.progress import ProgressReporter


def example_vectors(
    segmenter: Segmenter, labeled: LabeledFolder, progress: ProgressReporter | None = None
) -> dict[str, Tensor]:
    """The prototypes of ``labeled_prototypes`` in a segmenter's embedding, by class name.

    Returns:
        Name -> (D,) unit vector, of the classes that have labeled pixels.

    Raises:
        UserError: see ``labeled_prototypes``.
    """
    found = labeled_prototypes(segmenter.embed, labeled, progress)
    return {labeled.classes.names[label]: vector for label, vector in found.items()}
