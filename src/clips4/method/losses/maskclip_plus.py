"""The loss of MaskCLIP+ (Zhou et al., "Extract Free Dense Labels from CLIP", ECCV 2022, section 3.3).

The teacher's predictions are the labels of a segmentation network whose classifier, the class vectors t_l, is frozen:

    y_p = argmax_l x_p . t_l,        L = - mean_p log softmax_l(z_p . t_l / tau)[y_p]

with x_p the teacher's pixel vector; after part of the schedule the network trains on its own labels, x_p = z_p.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.data.label_maps import IGNORED

TEACHER_TEMPERATURE = 0.01  # CLIP's trained one


@torch.no_grad()
def pseudo_labels(
    pixels: Tensor, classifier: Tensor, temperature: float, confidence: float = 0.0, denoise: bool = False
) -> Tensor:
    """The most probable class of each pixel.

    Args:
        pixels: (B, D, h, w) unit along D.
        classifier: (K, D) unit rows.
        temperature: of the softmax that confidence is measured in.
        confidence: pixels whose class is less probable are ``IGNORED``.
        denoise: drop, in each of the B, classes that are at least half probable at no pixel (all stay where none is).

    Returns:
        (B, h, w) int64 in 0..K-1, or ``IGNORED``.
    """
    logits = torch.einsum("bdhw,kd->bkhw", pixels, classifier) / temperature
    if denoise:
        sure = logits.softmax(1).flatten(2).amax(2) >= 0.5
        sure |= ~sure.any(1, keepdim=True)
        logits = logits.masked_fill(~sure[:, :, None, None], -torch.inf)
    probability, labels = logits.softmax(1).max(1)
    return torch.where(probability >= confidence, labels, IGNORED)


def pseudo_label_loss(z: Tensor, labels: Tensor, classifier: Tensor, temperature: float) -> Tensor:
    """Cross entropy of the frozen classifier, mean over labeled pixels; 0 where there is none.

    Args:
        z: (B, D, h, w) pixel embeddings, unit along D.
        labels: (B, h, w) int64, ``IGNORED`` where there is none.
        classifier: (K, D) unit rows, without gradient.
        temperature: tau.

    Returns:
        Scalar.
    """
    logits = torch.einsum("bdhw,kd->bkhw", z, classifier.detach()) / temperature
    total = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def maskclip_plus(
    z: Tensor,
    pixel_map: Tensor,
    classifier: Tensor,
    temperature: float,
    confidence: float,
    denoise: bool,
    self_training: bool,
) -> Tensor:
    """The loss of one batch with the teacher's labels or, once self-training, the student's own.

    Args:
        z: (B, D, h, w) pixel embeddings.
        pixel_map: (B, D, h, w) the teacher's, at the same places.
        classifier: (K, D) text vectors.
        temperature: tau, of the student; the teacher's confidence is measured at CLIP's own temperature.
        confidence, denoise: see ``pseudo_labels``.
        self_training: whether labels are the student's own.

    Returns:
        Scalar.
    """
    if self_training:
        labels = pseudo_labels(z.detach(), classifier, temperature, confidence, denoise)
    else:
        labels = pseudo_labels(pixel_map, classifier, TEACHER_TEMPERATURE, confidence, denoise)
    return pseudo_label_loss(z, labels, classifier, temperature)
