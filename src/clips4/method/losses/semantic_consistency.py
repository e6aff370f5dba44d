"""L_s, semantic consistency over known and unknown class prototypes (CLIP-S4 section 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.method.class_scores import assign, class_scores
from clips4.method.losses.reduction import Reduction, reduce


def semantic_consistency(
    v: Tensor,
    guidance: Tensor,
    prototypes: Tensor,
    temperature: float,
    reduction: Reduction = "mean",
    labels: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """Draws the class probabilities of each segment to the class that the teacher assigns.

        y_s = argmax_l i_s . c_l,        L_s(s) = CE(y_s, softmax(v_s . C / tau))

    Args:
        v: (S, D) segment embeddings of the student, unit rows.
        guidance: (S, D) i_s, unit rows; no gradient flows to it.
        prototypes: (L, D) C, known and unknown class prototypes, unit rows; no gradient flows to them.
        temperature: tau.
        reduction: "mean" or "sum" over segments, or "none".
        labels: (S,) y_s, where they come from elsewhere, e.g. ``class_scores.assign_in_context``.
        groups: (L,) the class of each prototype, where classes have several; the logit of a class is then that of the
            nearest one. None: each prototype is a class of its own.

    Returns:
        A scalar; (S,) for "none".

    Raises:
        ValueError: shapes do not match, or there is no prototype.
    """
    if v.ndim != 2 or v.shape != guidance.shape:
        raise ValueError(f"expected v and guidance both (S, D), got {tuple(v.shape)} and {tuple(guidance.shape)}")
    if prototypes.ndim != 2 or prototypes.shape[1] != v.shape[1] or not len(prototypes):
        raise ValueError(f"expected prototypes (L, {v.shape[1]}), got {tuple(prototypes.shape)}")
    prototypes = prototypes.detach()
    cosines = class_scores(v @ prototypes.T, groups)
    logits = cosines.to(torch.promote_types(v.dtype, torch.float32)) / temperature
    labels = assign(guidance, prototypes, groups) if labels is None else labels
    return reduce(F.cross_entropy(logits, labels, reduction="none"), reduction)
