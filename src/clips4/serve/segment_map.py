"""The segments of an image for clicking: clusters of its pixel embeddings, cut by superpixels."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clips4.inference.parts import pool_parts
from clips4.method.segments import cut_by_regions, spherical_kmeans
from clips4.regions.superpixels import superpixels
from clips4.utils.images import RGB, reduce_to

SIDE = 512  # long side of the map of segments
_REGIONS, _CLUSTERS, _ITERATIONS = 48, 16, 6
_SMALLEST = 0.001  # share of the image; smaller segments join the largest of their region


@dataclass(frozen=True, eq=False)
class SegmentMap:
    """Segments of one image.

    Attributes:
        labels: (H', W') int32 segment of each pixel, 0..S-1, at a long side of at most ``SIDE``.
        regions: (S,) the region that each segment lies in.
        vectors: (S, D) unit rows, v_s.
    """

    labels: NDArray[np.int32]
    regions: NDArray[np.int64]
    vectors: Tensor

    def at(self, x: int, y: int, size: tuple[int, int]) -> int:
        """The segment at a pixel of an image of this size (H, W)."""
        height, width = self.labels.shape
        return int(self.labels[y * height // size[0], x * width // size[1]])

    def resized(self, size: tuple[int, int]) -> NDArray[np.int32]:
        """(H, W) the segments at another size, by the nearest pixel."""
        (height, width), (rows, columns) = self.labels.shape, size
        return self.labels[np.arange(rows)[:, None] * height // rows, np.arange(columns)[None] * width // columns]


@torch.no_grad()
def segment_map(image: RGB, z: Tensor) -> SegmentMap:
    """The segments of an image (H, W, 3) with embeddings z (D, h, w)."""
    small = reduce_to(image, SIDE)
    regions = superpixels(small, "slic", _REGIONS)
    clusters = spherical_kmeans(z[None].float().cpu(), _CLUSTERS, _ITERATIONS)
    at_regions = F.interpolate(clusters[None].double(), regions.shape, mode="nearest-exact")[0].long()
    cut = cut_by_regions(at_regions, torch.from_numpy(regions.astype(np.int64))[None])
    labels, region = cut.labels[0].numpy(), cut.region.numpy()
    sizes = np.bincount(labels.ravel(), minlength=len(region))
    order = np.lexsort((-sizes, region))  # by region, the largest first
    first = np.r_[True, np.diff(region[order]) > 0]
    largest = np.zeros(int(region.max()) + 1, np.int64)
    largest[region[order][first]] = order[first]
    target = np.where(sizes < _SMALLEST * labels.size, largest[region], np.arange(len(region)))
    kept, labels = np.unique(target[labels], return_inverse=True)
    labels = labels.reshape(regions.shape).astype(np.int32)
    return SegmentMap(labels, region[kept], torch.from_numpy(pool_parts(z, labels, len(kept))))
