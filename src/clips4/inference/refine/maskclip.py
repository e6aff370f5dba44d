"""Refinements of a teacher without a student: MaskCLIP's key smoothing and prompt denoising, and PAMR.

Zhou et al., "Extract Free Dense Labels from CLIP" (ECCV 2022), section 3.2. With p_j = softmax(100 x_j . T) the class
probabilities at position j and k_j its key in the teacher's last attention,

    key smoothing       p_i <- (1 / N) sum_j cos(k_i, k_j) p_j
    prompt denoising    a class whose probability reaches t = 0.5 nowhere in the image is removed

The paper's sum has no 1 / N; it changes no prediction and keeps values in [-1, 1].
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.refine.pamr import pamr_affinity, refine_by_affinity

SHARPNESS = 100.0  # CLIP's trained inverse temperature, and MaskCLIP's


@dataclass(frozen=True)
class Refinement:
    """Which refinements are applied, in this order.

    Attributes:
        prompt_denoising: remove classes that are confident at no position.
        key_smoothing: average probabilities over positions with similar keys.
        pamr: average scores over similar pixels nearby, at the image's size.
        threshold: t of prompt denoising.
        affinity: before these, a finer pixel map along outlines in the teacher's own features (``models.affinity``).
    """

    prompt_denoising: bool = False
    key_smoothing: bool = False
    pamr: bool = False
    threshold: float = 0.5
    affinity: bool = False

    def __post_init__(self) -> None:
        if self.affinity and self.key_smoothing:
            raise UserError("affinity gives a finer map than there are keys; leave out key smoothing")

    @property
    def of_scores(self) -> bool:
        """Whether it changes the scores at the positions of the map."""
        return self.prompt_denoising or self.key_smoothing


def confident_classes(cosines: Tensor, threshold: float) -> Tensor:
    """Indices of the classes whose probability reaches ``threshold`` somewhere; all if none does.

    Args:
        cosines: (L, h, w) of one image.
        threshold: t in [0, 1].

    Returns:
        (L',) int64, rising.
    """
    sure = (SHARPNESS * cosines).softmax(0).flatten(1).amax(1) >= threshold
    return sure.nonzero()[:, 0] if sure.any() else torch.arange(len(cosines), device=cosines.device)


def smooth_by_keys(probabilities: Tensor, keys: Tensor) -> Tensor:
    """(L, h, w) probabilities and (W, h, w) unit keys -> (L, h, w); costs N W L, not N^2."""
    p, k = probabilities.flatten(1), keys.flatten(1).to(probabilities)
    return ((p @ k.T) @ k / p.shape[1]).view_as(probabilities)


def refine_scores(cosines: Tensor, keys: Tensor | None, refinement: Refinement) -> tuple[Tensor, Tensor]:
    """Prompt denoising and key smoothing of one image.

    Args:
        cosines: (L, h, w) with the class vectors.
        keys: (W, h, w) unit keys of the same positions, for key smoothing.
        refinement: which of the two.

    Returns:
        (L', h, w) scores of the remaining classes (cosines, or smoothed probabilities), and (L',) their indices.
    """
    kept = torch.arange(len(cosines), device=cosines.device)
    if refinement.prompt_denoising:
        kept = confident_classes(cosines, refinement.threshold)
        cosines = cosines[kept]
    if not refinement.key_smoothing:
        return cosines, kept
    if keys is None:
        raise ValueError("key smoothing needs the keys of the positions")
    return smooth_by_keys((SHARPNESS * cosines).softmax(0), keys), kept


def refined_probabilities(cosines: Tensor, keys: Tensor | None, refinement: Refinement) -> Tensor:
    """Prompt denoising and key smoothing of one image, as class probabilities that sum to 1 at every position.

    Args:
        cosines, keys, refinement: see ``refine_scores``.

    Returns:
        (L, h, w); 0 for the classes that denoising removes.
    """
    scores, kept = refine_scores(cosines, keys, refinement)
    shares = scores if refinement.key_smoothing else (SHARPNESS * scores).softmax(0)
    shares = shares.clamp(min=0)  # keys that point apart weigh negatively
    found = torch.zeros_like(cosines)
    found[kept] = shares / shares.sum(0).clamp(min=torch.finfo(shares.dtype).tiny)
    return found


class PamrRefiner:
    """PAMR by one image (3, H, W); call it on the scores (C, H, W) of any number of classes at a time."""

    def __init__(self, image: Tensor):
        self._affinity = pamr_affinity(image)

    def __call__(self, scores: Tensor) -> Tensor:
        return refine_by_affinity(scores, self._affinity)
