"""Class prototypes from a few labeled images: the mean embedding of each class's pixels."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.data.segmentation_dataset import LabeledFolder
from clips4.errors import UserError
from clips4.utils.images import RGB
from clips4.utils.progress import ProgressReporter, counted


@torch.no_grad()
def labeled_prototypes(
    embed: Callable[[RGB], Tensor], labeled: LabeledFolder, progress: ProgressReporter | None = None
) -> dict[int, Tensor]:
    """The normalized mean of the embeddings of each class's labeled pixels, over all images.

    Args:
        embed: image (H, W, 3) -> (D, h, w) unit along D.
        labeled: images and label maps; pixels that are not scored do not count.
        progress: advances once an image.

    Returns:
        Class 0..K-1 -> (D,) unit vector in float32, of the classes that have labeled pixels, in order.

    Raises:
        UserError: no pixel is labeled, a label map has other values or another size, or an image is unreadable.
    """
    count, sums = len(labeled.classes), dict[int, Tensor]()
    for index, (_, image, truth) in enumerate(counted(progress, "examples", labeled, len(labeled))):
        z = embed(image).float().cpu()
        height, width = z.shape[1:]
        classes = torch.from_numpy(truth.astype("int32"))
        for label in classes.unique().tolist():
            if label == count:
                raise UserError(f"{labeled.masks[index]}: a value that is none of the {count} classes")
            if label < count:
                share = F.adaptive_avg_pool2d((classes == label).float()[None, None], (height, width))[0, 0]
                sums[label] = sums.get(label, torch.zeros(len(z))) + torch.einsum("dhw,hw->d", z, share)
    if not sums:
        raise UserError(f"{labeled.images[0].parent}: no pixel has a class; label some")
    return {label: F.normalize(total, dim=0) for label, total in sorted(sums.items())}


def with_labeled(prototypes: Tensor, labeled: dict[int, Tensor], rows: int = 1) -> Tensor:
    """(L, D) prototypes with those of labeled classes replaced; all ``rows`` that a class has, by the same vector."""
    replaced = prototypes.clone()
    for label, vector in labeled.items():
        replaced[label * rows : (label + 1) * rows] = vector.to(prototypes)
    return replaced
