"""Segments: spherical k-means of pixel embeddings, cut by regions, and their mean vectors.

CLIP-S4 section 3.1, after SegSort (Hwang et al., ICCV 2019): pixels of one view are clustered on the unit sphere
(von Mises-Fisher mixture with hard assignments), each cluster is cut by the visually coherent regions, and a segment
is represented by the normalized sum of its pixel embeddings, v_s.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.data.label_maps import IGNORED

LOCATION_WEIGHT = 0.5  # positions only break ties between pixels alike; the regions draw the outlines


class Segments(NamedTuple):
    """Segments of a batch of views, numbered through over the whole batch.

    Attributes:
        labels: (B, h, w) segment of each pixel, ``IGNORED`` where the region map ignores it.
        region: (S,) region that each segment lies in.
        view: (S,) index in the batch of the view that each segment lies in.
    """

    labels: Tensor
    region: Tensor
    view: Tensor


def grid_shape(clusters: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the k-means grid: as given, or the factorization of ``clusters`` nearest to a square."""
    if not isinstance(clusters, int):
        rows, columns = clusters
    else:
        rows = next((n for n in range(int(max(clusters, 0) ** 0.5), 0, -1) if clusters % n == 0), 0)
        columns = clusters // rows if rows else 0
    if rows < 1 or columns < 1:
        raise ValueError(f"clusters is a positive number or (rows, columns), got {clusters}")
    return rows, columns


def grid_labels(height: int, width: int, rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """(h, w) labels 0..rows * columns - 1 of a regular grid, row by row: the k-means initialization."""
    y = torch.arange(height, device=device) * rows // height
    x = torch.arange(width, device=device) * columns // width
    return y[:, None] * columns + x[None, :]


def locations(height: int, width: int, like: Tensor) -> Tensor:
    """(2, h, w) center of each pixel as (y, x) in [-1, 1], of the type and device of ``like``."""
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * 2 / height - 1
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * 2 / width - 1
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))


@torch.no_grad()
def spherical_kmeans(
    z: Tensor, clusters: int | tuple[int, int], iterations: int, location_weight: float = LOCATION_WEIGHT
) -> Tensor:
    """Cluster the pixels of each map on the unit sphere, without gradient.

    The features are [z, location_weight * (y, x)], normalized, with (y, x) in [-1, 1]. Clusters start as a regular
    grid; each iteration sets the centers to the normalized sums of their pixels, then gives each pixel to the center
    of largest cosine (the lowest index where equal). A cluster that loses all its pixels stays empty.

    Args:
        z: (B, D, h, w) pixel embeddings, unit along D.
        clusters: their number at the start, or (rows, columns) of the grid.
        iterations: updates of centers and labels; 0 keeps the grid.
        location_weight: weight of pixel positions; 0 ignores them.

    Returns:
        (B, h, w) labels, int64, 0..clusters - 1.

    Raises:
        ValueError: z is not four-dimensional, or clusters is not positive.
    """
    if z.ndim != 4:
        raise ValueError(f"expected z (B, D, h, w), got {tuple(z.shape)}")
    batch, _, height, width = z.shape
    rows, columns = grid_shape(clusters)
    count = rows * columns
    pixels = pixel_rows(z)  # (B, P, D)
    places = (location_weight * locations(height, width, z)).flatten(1).T  # (P, 2)
    # |[z, place]| depends on the pixel alone: it weighs the pixel in its center's sum, and never changes the argmax
    weights = (1 + places.square().sum(1)).rsqrt()  # (P,)
    labels = grid_labels(height, width, rows, columns, z.device).flatten().expand(batch, -1)
    members, weights = z.new_empty(batch, count, height * width), weights.expand(batch, 1, -1)
    for _ in range(iterations):
        members.zero_().scatter_(1, labels[:, None], weights)  # (B, K, P) the weight of each pixel in its cluster
        sums, place_sums = members @ pixels, members @ places  # (B, K, D), (B, K, 2): a center in its two parts
        lengths = torch.linalg.vector_norm(torch.cat([sums, place_sums], 2), dim=2, keepdim=True).clamp_min(1e-12)
        cosine = pixels @ (sums / lengths).transpose(1, 2) + places @ (place_sums / lengths).transpose(1, 2)
        empty = members.amax(2) == 0  # (B, K)
        labels = cosine.masked_fill_(empty[:, None], -torch.inf).argmax(2)
    return labels.view(batch, height, width)


def cut_by_regions(clusters: Tensor, regions: Tensor) -> Segments:
    """Cut each cluster of each view by the region map: a segment is a cluster's part within one region.

    Args:
        clusters: (B, h, w) labels of k-means, 0 or more.
        regions: (B, h, w) region of each pixel, numbered through over the images of the batch (the two views of an
            image share numbers, so that a region is the same in both); ``IGNORED`` where there is none.
    """
    if clusters.shape != regions.shape:
        raise ValueError(f"clusters {tuple(clusters.shape)} and regions {tuple(regions.shape)} differ in shape")
    view = torch.arange(len(clusters), device=clusters.device)[:, None, None]
    cluster_count, region_count = clusters.max() + 1, regions.max().clamp(min=0) + 1
    key = (view * cluster_count + clusters) * region_count + regions
    key = torch.where(regions == IGNORED, -1, key).flatten()
    # the number of segments depends on the data: the only place where the host waits for the device. A key of -1 put
    # in front makes sure that the first key is that of ignored pixels, whose label becomes -1, IGNORED
    keys, inverse = torch.cat([key.new_full((1,), -1), key]).unique(return_inverse=True)
    keys = keys[1:]
    labels = (inverse[1:] - 1).view_as(regions)
    return Segments(labels, keys % region_count, keys // (region_count * cluster_count))


def pool(z: Tensor, labels: Tensor, count: int) -> Tensor:
    """v_s: the normalized sum of each segment's vectors; the gradient flows to z.

    Args:
        z: (P, D) vectors.
        labels: (P,) segment of each, ``IGNORED`` for none.
        count: S, the number of segments.

    Returns:
        (S, D) unit rows; zero for a segment without pixels.

    Raises:
        ValueError: the shapes do not match.
    """
    if z.ndim != 2 or labels.shape != z.shape[:1]:
        raise ValueError(f"expected z (P, D) and labels (P,), got {tuple(z.shape)} and {tuple(labels.shape)}")
    # ignored pixels are summed into an extra row, which is dropped
    target = torch.where(labels == IGNORED, count, labels)
    sums = z.new_zeros(count + 1, z.shape[1]).index_add(0, target, z)
    return F.normalize(sums[:count], dim=1)


def pixel_rows(maps: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, h * w, D); no copy where ``maps`` lies channels last, as a student's output does."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def flatten_pixels(maps: Tensor) -> Tensor:
    """(B, D, h, w) -> (B * h * w, D)."""
    return pixel_rows(maps).flatten(0, 1)
