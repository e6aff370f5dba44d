"""Spherical k-means and L_t as they stand in the equations, with every pixel-by-cluster and pixel-by-segment matrix
built whole: no loops over pixels, so that they can be run on real sizes, and no thought of memory or speed."""

import torch
from torch import Tensor


def spherical_kmeans(z: Tensor, rows: int, columns: int, iterations: int, location_weight: float) -> Tensor:
    """(B, D, h, w) -> (B, h, w)."""
    batch, dimensions, height, width = z.shape
    y = 2 * (torch.arange(height, dtype=z.dtype) + 0.5) / height - 1
    x = 2 * (torch.arange(width, dtype=z.dtype) + 0.5) / width - 1
    place = location_weight * torch.stack([y[:, None].expand(height, width), x[None].expand(height, width)])
    features = torch.cat([z, place.expand(batch, 2, height, width)], 1)
    features = features.permute(0, 2, 3, 1).reshape(batch, height * width, dimensions + 2)
    features = features / features.norm(dim=2, keepdim=True)
    first = (torch.arange(height) * rows // height)[:, None] * columns + (torch.arange(width) * columns // width)[None]
    labels = first.flatten().expand(batch, -1)
    for _ in range(iterations):
        members = labels[:, :, None] == torch.arange(rows * columns)  # (B, P, K)
        sums = torch.einsum("bpk,bpd->bkd", members.to(z.dtype), features)
        centers = sums / sums.norm(dim=2, keepdim=True).clamp(min=1e-12)
        cosine = torch.einsum("bpd,bkd->bpk", features, centers)
        cosine = torch.where(members.any(1, keepdim=True), cosine, -torch.inf)
        labels = cosine.argmax(2)
    return labels.view(batch, height, width)


def pixel_segment_contrast(
    z: Tensor,
    pixel_region: Tensor,
    pixel_segment: Tensor,
    v: Tensor,
    segment_region: Tensor,
    kappa: float,
    exclude_own: bool = False,
) -> Tensor:
    """Mean L_t; every pixel counts."""
    similar = (kappa * (z @ v.T)).exp()  # (P, S)
    positive = pixel_region[:, None] == segment_region[None, :]
    every = torch.ones_like(positive)
    if exclude_own:
        own = pixel_segment[:, None] == torch.arange(len(v))[None, :]
        dropped = own & (positive & ~own).any(1, keepdim=True)
        positive, every = positive & ~dropped, every & ~dropped
    return -((similar * positive).sum(1) / (similar * every).sum(1)).log().mean()
