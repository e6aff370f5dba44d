"""Class vectors from a few labeled images: the mean embedding of each class's pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.data.segmentation_dataset import LabeledFolder
from clips4.errors import UserError
from clips4.inference.segmenter import Segmenter
from clips4.utils.progress import ProgressReporter, counted


@torch.no_grad()
def example_vectors(
    segmenter: Segmenter, labeled: LabeledFolder, progress: ProgressReporter | None = None
) -> dict[str, Tensor]:
    """The normalized mean of the embeddings of each class's labeled pixels, over all images.

    Args:
        segmenter: embeds the images.
        labeled: images and label maps; pixels that are not scored do not count.
        progress: advances once an image.

    Returns:
        Name -> (D,) unit vector, of the classes that have labeled pixels.

    Raises:
        UserError: no pixel is labeled, a label map has other values or another size, or an image is unreadable.
    """
    names = labeled.classes.names
    sums: dict[int, Tensor] = {}
    for index, (_, image, truth) in enumerate(counted(progress, "examples", labeled, len(labeled))):
        z = segmenter.embed(image).float().cpu()
        height, width = z.shape[1:]
        classes = torch.from_numpy(truth.astype("int32"))
        for label in classes.unique().tolist():
            if label == len(names):
                raise UserError(f"{labeled.masks[index]}: a value that is none of the {len(names)} classes")
            if label < len(names):
                share = F.adaptive_avg_pool2d((classes == label).float()[None, None], (height, width))[0, 0]
                sums[label] = sums.get(label, torch.zeros(len(z))) + torch.einsum("dhw,hw->d", z, share)
    if not sums:
        raise UserError(f"{labeled.images[0].parent}: no pixel has a class; label some")
    return {names[label]: F.normalize(total, dim=0) for label, total in sorted(sums.items())}
