"""The three losses, one pixel or segment at a time; exponentials as they stand in the equations."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.reference.segments import dot


def pixel_segment_contrast(
    z: Tensor,
    pixel_region: Tensor,
    pixel_segment: Tensor,
    v: Tensor,
    segment_region: Tensor,
    kappa: float,
    exclude_own: bool = False,
    segment_class: Tensor | None = None,
) -> Tensor:
    """L_t(p) = -log sum_{S+} exp(kappa z_p.v_s) / sum_{S+ u S-} exp(kappa z_p.v_s), for each pixel that counts.

    Where classes are given, S- has no segment of the class of p's own one.
    """
    losses = []
    for p in range(len(z)):
        own = int(pixel_segment[p])
        if own == -1:
            continue
        positive = [s for s in range(len(v)) if segment_region[s] == pixel_region[p]]
        negative = [s for s in range(len(v)) if segment_region[s] != pixel_region[p]]
        if segment_class is not None:
            negative = [s for s in negative if segment_class[s] != segment_class[own]]
        if exclude_own and any(s != own for s in positive):
            positive = [s for s in positive if s != own]
        similar = torch.stack([(kappa * dot(z[p], v[s])).exp() for s in positive]).sum()
        every = torch.stack([(kappa * dot(z[p], v[s])).exp() for s in positive + negative]).sum()
        losses.append(-(similar / every).log())
    return torch.stack(losses) if losses else z.new_zeros(0)


def embedding_consistency(v: Tensor, guidance: Tensor) -> Tensor:
    """L_e(s) = 1 - v_s . i_s, for each segment."""
    return torch.stack([1 - dot(v[s], guidance[s].detach()) for s in range(len(v))])


def semantic_consistency(v: Tensor, guidance: Tensor, prototypes: Tensor | Sequence[Tensor], tau: float) -> Tensor:
    """L_s(s) = -log softmax_l(max_j v_s . c_lj / tau)[y_s] with y_s = argmax_l max_j i_s . c_lj, for each segment.

    A class has rows (m, D), or one (D,).
    """
    losses = []
    for s in range(len(v)):
        likeness = [max(float(dot(guidance[s], row)) for row in c.reshape(-1, v.shape[1])) for c in prototypes]
        y = likeness.index(max(likeness))
        nearest = [
            torch.stack([dot(v[s], row) for row in c.detach().reshape(-1, v.shape[1])]).max() for c in prototypes
        ]
        weights = [(each / tau).exp() for each in nearest]
        losses.append(-(weights[y] / torch.stack(weights).sum()).log())
    return torch.stack(losses)
