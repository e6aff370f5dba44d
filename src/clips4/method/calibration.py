"""The teacher's space, calibrated: the common offset of its pixel vectors and that of its text vectors are removed.

CLIP's vectors lie in a narrow cone per modality (Liang et al., "Mind the Gap", NeurIPS 2022): all pixel vectors share
one offset, all text vectors another, and what tells classes apart is a small part of their length. With pixel vectors x
and text vectors t as the teacher gives them,

    x' = normalize(x - mu_x),    mu_x  mean over training and reference images of the image's mean pixel vector
    t' = normalize(t - mu_t),    mu_t  mean over a fixed vocabulary

Exact invariance: let x~ = s Q x + b and t~ = r Q t + d with s, r > 0, any b and d, and Q with orthonormal columns (a
rotation, or an embedding into more dimensions). Means move along, so x~' = Q x' and t~' = Q t', and every cosine, hence
every loss, argmax and prototype (up to Q), stays what it was. If the teacher normalizes x~ afterwards, the same holds
where the length of x~ is constant: x unit and b orthogonal to every Q x. Elsewhere it holds to first order in s / |b|.
Temperatures are not rescaled to the spread of the space. Not in the paper; ``teacher.calibrate`` switches it on.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_SHORTEST = 1e-6  # a difference this short, relative to the vector itself, is rounding noise and has no direction


class SpaceCalibration(NamedTuple):
    """Offsets of a teacher's space: ``pixel_offset`` (D,) is mu_x, ``text_offset`` (D,) is mu_t."""

    pixel_offset: Tensor
    text_offset: Tensor

    def pixels(self, pixel_map: Tensor) -> Tensor:
        """(B, D, h, w) as the teacher gives them -> the same, calibrated, unit along D."""
        return remove_offset(pixel_map, self.pixel_offset.to(pixel_map)[:, None, None], 1)

    def text(self, rows: Tensor) -> Tensor:
        """(K, D) text vectors -> (K, D) calibrated unit rows."""
        return remove_offset(rows, self.text_offset.to(rows), 1)


def remove_offset(vectors: Tensor, offset: Tensor, dim: int) -> Tensor:
    """normalize(vectors - offset) along ``dim``; 0 for a vector that equals the offset up to rounding."""
    difference = vectors - offset
    length = torch.linalg.vector_norm(difference, dim=dim, keepdim=True)
    floor = _SHORTEST * torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return torch.where(length > floor, difference / length.clamp_min(1e-12), torch.zeros_like(difference))


def fit_calibration(
    image_means: Tensor, vocabulary: Tensor, reference_means: Tensor | None = None, share: float = 0.5
) -> SpaceCalibration:
    """The calibration of a space.

    Where all training images show the same thing, their mean is that thing, and removing it removes the class. So part
    of mu_x comes from reference images of anything else. The weights sum to 1: a common offset is still removed whole.

    Args:
        image_means: (N, D) mean pixel vector of each training image, as the teacher gives it.
        vocabulary: (V, D) text vectors of a fixed vocabulary, as the teacher gives them.
        reference_means: (R, D) mean pixel vectors of reference images; None for none.
        share: of the reference images in mu_x, 0 to 1.

    Raises:
        ValueError: no image, no vocabulary, or a share out of range.
    """
    if not len(image_means) or not len(vocabulary) or not 0 <= share <= 1:
        raise ValueError(
            f"expected images, a vocabulary and a share in [0, 1]; got {len(image_means)}, {len(vocabulary)}, {share}"
        )
    pixel = image_means.double().mean(0)
    if reference_means is not None and len(reference_means):
        pixel = (1 - share) * pixel + share * reference_means.double().mean(0)
    return SpaceCalibration(pixel.to(image_means), vocabulary.double().mean(0).to(vocabulary))


def mean_vector(pixel_map: Tensor) -> Tensor:
    """(D, h, w) pixel map of an image -> (D,) its mean, in double precision."""
    return pixel_map.double().flatten(1).mean(1)
