"""L_e, embedding consistency with the vision-language model (CLIP-S4 section 3.2)."""

from torch import Tensor

from clips4.method.losses.reduction import Reduction, reduce


def embedding_consistency(v: Tensor, guidance: Tensor, reduction: Reduction = "mean") -> Tensor:
    """L_e(s) = 1 - v_s . i_s: the student's segment vector is to be the teacher's.

    Args:
        v: (S, D) segment embeddings of the student, unit rows.
        guidance: (S, D) i_s, the teacher's pixel map averaged over each segment, unit rows; takes no gradient.
        reduction: "mean" or "sum" over segments, or "none".

    Raises:
        ValueError: the shapes differ.
    """
    if v.ndim != 2 or v.shape != guidance.shape:
        raise ValueError(f"expected v and guidance (S, D) alike, got {tuple(v.shape)} and {tuple(guidance.shape)}")
    return reduce(1 - (v * guidance.detach()).sum(1), reduction)
