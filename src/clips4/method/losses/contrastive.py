"""L_t, the pixel-segment contrastive loss (CLIP-S4 section 3.1; SegSort, Hwang et al., ICCV 2019, equation 4)."""

from typing import Any

import torch
from torch import Tensor

from clips4.data.label_maps import IGNORED
from clips4.method.losses.reduction import Reduction

MATRICES = 4  # of size P x S that a block holds at once: logits, those of S+, the mask, a temporary


def pixel_segment_contrast(
    z: Tensor,
    pixel_region: Tensor,
    pixel_segment: Tensor,
    v: Tensor,
    segment_region: Tensor,
    concentration: float,
    exclude_own: bool = False,
    reduction: Reduction = "mean",
    budget: int = 2**24,
    segment_class: Tensor | None = None,
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
        budget: bytes that the pixel-by-segment matrices may take at a time. They are computed in blocks of pixels, at
            least one, and gradients are accumulated along with the loss, so that nothing of size P x S is kept for the
            backward pass.
        segment_class: (S,) class y_s of each segment. With it, segments of other regions that have the class of p's own
            segment leave S-, since two regions may show the same class. None is the paper's loss.

    Returns:
        A scalar, or with "none" one loss per pixel that counts.

    Raises:
        ValueError: shapes do not match.
    """
    if z.ndim != 2 or v.ndim != 2 or z.shape[1] != v.shape[1]:
        raise ValueError(f"expected z (P, D) and v (S, D), got {tuple(z.shape)} and {tuple(v.shape)}")
    if pixel_region.shape != z.shape[:1] or pixel_segment.shape != z.shape[:1] or segment_region.shape != v.shape[:1]:
        raise ValueError(
            f"expected pixel_region and pixel_segment ({len(z)},), segment_region ({len(v)},), got "
            f"{tuple(pixel_region.shape)}, {tuple(pixel_segment.shape)}, {tuple(segment_region.shape)}"
        )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is 'mean', 'sum' or 'none', got {reduction!r}")
    if budget < 1:
        raise ValueError(f"budget is a positive number of bytes, got {budget}")
    if segment_class is not None and segment_class.shape != segment_region.shape:
        raise ValueError(f"expected segment_class ({len(v)},), got {tuple(segment_class.shape)}")
    counted = pixel_segment != IGNORED
    if reduction == "none":
        logits, positive = _logits(
            z[counted],
            v,
            pixel_region[counted],
            pixel_segment[counted],
            segment_region,
            concentration,
            exclude_own,
            segment_class,
        )
        return logits.logsumexp(1) - positive.logsumexp(1)
    with torch.autocast(z.device.type, enabled=False):  # keeps the given types and sums in float32
        total = _ContrastSum.apply(
            z,
            v,
            pixel_region,
            pixel_segment,
            segment_region,
            counted,
            concentration,
            exclude_own,
            budget,
            segment_class,
        )
    return total if reduction == "sum" else total / counted.sum().clamp(min=1)


def _logits(
    z: Tensor,
    v: Tensor,
    pixel_region: Tensor,
    pixel_segment: Tensor,
    segment_region: Tensor,
    concentration: float,
    exclude_own: bool,
    segment_class: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """(P, S) kappa z_p . v_s over S+ u S-, and the same over S+ alone; -inf for segments outside the set."""
    # float32 at least: exp(kappa) leaves the range of float16 from kappa = 11 on
    logits = (z @ v.T).to(torch.promote_types(z.dtype, torch.float32)).mul_(concentration)
    elsewhere = pixel_region[:, None] != segment_region
    own = pixel_segment.clamp(min=0)[:, None]  # ignored pixels are not counted, so any index will do
    if segment_class is not None and len(segment_class):
        logits.masked_fill_(elsewhere & (segment_class[own] == segment_class), -torch.inf)
    if exclude_own:
        alone = (~elsewhere).sum(1, keepdim=True) == 1
        logits = logits.scatter(1, own, torch.where(alone, logits.gather(1, own), -torch.inf))
    return logits, logits.masked_fill(elsewhere, -torch.inf)


class _ContrastSum(torch.autograd.Function):
    """Sum of L_t over the pixels that count, block by block of pixels.

    With P(s|p) the softmax of l_ps = kappa z_p . v_s over S+ u S-, and P+(s|p) the one over S+ alone,

        dL_t(p) / dl_ps = P(s|p) - P+(s|p),   so   dL/dz = kappa (P - P+) v   and   dL/dv = kappa (P - P+)^T z.
    """

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        v: Tensor,
        pixel_region: Tensor,
        pixel_segment: Tensor,
        segment_region: Tensor,
        counted: Tensor,
        concentration: float,
        exclude_own: bool,
        budget: int,
        segment_class: Tensor | None,
    ) -> Tensor:
        wide = torch.promote_types(z.dtype, torch.float32)
        rows = max(1, budget // (MATRICES * max(len(v), 1) * wide.itemsize))
        wide_v = v.to(wide)
        total, z_gradient, v_gradient = z.new_zeros((), dtype=wide), torch.zeros_like(z), torch.zeros_like(wide_v)
        for block_z, block_region, block_segment, counts, out in zip(
            *(part.split(rows) for part in (z, pixel_region, pixel_segment, counted[:, None], z_gradient)), strict=True
        ):
            logits, positive = _logits(
                block_z, v, block_region, block_segment, segment_region, concentration, exclude_own, segment_class
            )
            every, similar = (x.logsumexp(1, keepdim=True) for x in (logits, positive))
            total += torch.where(counts, every - similar, 0).sum()
            every, similar = (x.masked_fill(~counts, torch.inf) for x in (every, similar))  # no gradient there
            slope = logits.sub_(every).exp_().sub_(positive.sub_(similar).exp_())  # P - P+
            out.copy_(slope @ wide_v)
            v_gradient.addmm_(slope.T, block_z.to(wide))
        ctx.save_for_backward(z_gradient, v_gradient.to(v.dtype))
        ctx.concentration = concentration
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        z_gradient, v_gradient = ctx.saved_tensors
        factor = slope * ctx.concentration
        return (z_gradient * factor, v_gradient * factor, *[None] * 8)
