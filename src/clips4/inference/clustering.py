"""Segmentation without class names: k-means of pixel embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.classifier import Query
from clips4.method.minibatch_kmeans import fit_minibatch_kmeans, sample_rows

BUDGET = 2**17  # pixel embeddings that k-means sees, sampled evenly from all images


def cluster_centers(maps: Sequence[Tensor], k: int, seed: int = 0) -> Tensor:
    """(k, D) centers of spherical k-means over the pixel embeddings (D, h, w) of some images.

    Raises:
        UserError: k is not positive, or larger than the number of pixel embeddings.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = sample_rows(maps, len(maps), BUDGET, generator)
    if not 1 <= k <= len(rows):
        raise UserError(f"k = {k}: give a number of clusters from 1 to {len(rows)}, the pixel embeddings there are")
    return fit_minibatch_kmeans(rows, k, generator)


def cluster_query(centers: Tensor) -> Query:
    """A query for the nearest center; the classes are "cluster 1" to "cluster k"."""
    return Query.one_per_class(centers, [f"cluster {number + 1}" for number in range(len(centers))])
