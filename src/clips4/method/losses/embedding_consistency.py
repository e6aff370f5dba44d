"""L_e, embedding consistency with the vision-language model (CLIP-S4 section 3.2)."""

from torch import Tensor

from clips4.method.losses.reduction import Reduction, reduce


def embedding_consistency(v: Tensor, guidance: Tensor, reduction: Reduction = "mean") -> Tensor:
    """L_e(s) = 1 - v_s . i_s: draws the student's segment vector to the teacher's.

    Args:
        v: (S, D) segment embeddings of the student, unit rows.
        guidance: (S, D) i_s, the teacher's pixel map averaged over each segment, unit rows; no gradient flows to it.
        reduction: "mean" or "sum" over segments, or "none".

    Returns:
        A scalar in [0, 2] for "mean"; (S,) for "none".

    Raises:
        ValueError: the shapes differ.
    """
    if v.ndim != 2 or v.shape != guidance.shape:
        raise ValueError(f"expected v and guidance both (S, D), got {tuple(v.shape)} and {tuple(guidance.shape)}")
    return reduce(1 - (v * guidance.detach()).sum(1), reduction)
