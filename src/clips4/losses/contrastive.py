"""L_t, the pixel-segment contrastive loss (CLIP-S4 section 3.1; SegSort, Hwang et al., ICCV 2019, equation 4)."""

import torch
from torch import Tensor

from clips4.losses.reduction import Reduction, reduce
from clips4.segments import IGNORED


def pixel_segment_contrast(
    z: Tensor,
    pixel_region: Tensor,
    pixel_segment: Tensor,
    v: Tensor,
    segment_region: Tensor,
    concentration: float,
    exclude_own: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Draw each pixel to the segments of its region, in both views, and away from every other segment.

        L_t(p) = -log  sum_{s in S+} exp(kappa z_p . v_s)  /  sum_{s in S+ u S-} exp(kappa z_p . v_s)

    S+ are all segments of p's region, in both views of its image, its own segment included; S- all other segments.

    Args:
        z: (P, D) pixel embeddings, unit rows.
        pixel_region: (P,) region of each pixel, numbered through over the images of the batch.
        pixel_segment: (P,) segment of each pixel, 0..S-1; pixels with ``IGNORED`` do not count.
        v: (S, D) segment embeddings, unit rows.
        segment_region: (S,) region of each segment.
        concentration: kappa, inverse temperature.
        exclude_own: the variant of SegSort and HSG: where S+ has another segment, p's own one leaves numerator and
            denominator.
        reduction: "mean" or "sum" over pixels (0 where none counts), or "none".

    Returns:
        A scalar, or with "none" one loss per pixel that counts.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    if z.ndim != 2 or v.ndim != 2 or z.shape[1] != v.shape[1]:
        raise ValueError(f"expected z (P, D) and v (S, D), got {tuple(z.shape)} and {tuple(v.shape)}")
    if pixel_region.shape != z.shape[:1] or pixel_segment.shape != z.shape[:1] or segment_region.shape != v.shape[:1]:
        raise ValueError(
            f"expected pixel_region and pixel_segment ({len(z)},), segment_region ({len(v)},), got "
            f"{tuple(pixel_region.shape)}, {tuple(pixel_segment.shape)}, {tuple(segment_region.shape)}"
        )
    counted = pixel_segment != IGNORED
    z, pixel_region, pixel_segment = z[counted], pixel_region[counted], pixel_segment[counted]
    # float32 at least: exp(kappa) leaves the range of float16 from kappa = 11 on
    logits = concentration * (z @ v.T).to(torch.promote_types(z.dtype, torch.float32))  # (P, S)
    positive = pixel_region[:, None] == segment_region[None, :]  # (P, S), S+
    if exclude_own:
        own = pixel_segment[:, None] == torch.arange(len(v), device=v.device)[None, :]
        dropped = own & (positive & ~own).any(1, keepdim=True)
        logits = logits.masked_fill(dropped, -torch.inf)
    numerator = logits.masked_fill(~positive, -torch.inf).logsumexp(1)
    return reduce(logits.logsumexp(1) - numerator, reduction)
