"""Segments by loops over views, pixels and clusters."""

import math

import torch
from torch import Tensor


def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()


def unit_vector(a: Tensor) -> Tensor:
    return a / dot(a, a).sqrt()


def spherical_kmeans(z: Tensor, rows: int, columns: int, iterations: int, location_weight: float) -> Tensor:
    """(B, D, h, w) -> (B, h, w): Lloyd's iterations on the sphere from a grid, one pixel at a time."""
    batch, _, height, width = z.shape
    result = torch.empty(batch, height, width, dtype=torch.int64)
    pixels = [(y, x) for y in range(height) for x in range(width)]
    for b in range(batch):
        feature, label = {}, {}
        for y, x in pixels:
            place = [2 * (y + 0.5) / height - 1, 2 * (x + 0.5) / width - 1]
            here = torch.tensor([location_weight * c for c in place], dtype=z.dtype)
            feature[y, x] = unit_vector(torch.cat([z[b, :, y, x], here]))
            label[y, x] = (y * rows // height) * columns + x * columns // width
        for _ in range(iterations):
            center = {}
            for cluster in range(rows * columns):
                mine = [feature[p] for p in pixels if label[p] == cluster]
                if mine:
                    center[cluster] = unit_vector(torch.stack(mine).sum(0))
            for p in pixels:
                best, best_cosine = -1, -math.inf
                for cluster, vector in center.items():
                    cosine = float(dot(vector, feature[p]))
                    if cosine > best_cosine:
                        best, best_cosine = cluster, cosine
                label[p] = best
        for y, x in pixels:
            result[b, y, x] = label[y, x]
    return result


def cut_by_regions(clusters: Tensor, regions: Tensor) -> dict[tuple[int, int, int], set[tuple[int, int, int]]]:
    """Segments as sets of pixels (view, y, x), by (view, cluster, region); region -1 belongs to none."""
    segments: dict[tuple[int, int, int], set[tuple[int, int, int]]] = {}
    views, height, width = clusters.shape
    for view in range(views):
        for y in range(height):
            for x in range(width):
                region = int(regions[view, y, x])
                if region != -1:
                    segments.setdefault((view, int(clusters[view, y, x]), region), set()).add((view, y, x))
    return segments


def pool(z: Tensor, labels: Tensor, count: int) -> Tensor:
    """(P, D), (P,) -> (S, D): v_s = sum of the z_p with label s, divided by its length; 0 without pixels."""
    rows = []
    for segment in range(count):
        total = torch.zeros(z.shape[1], dtype=z.dtype)
        members = [p for p in range(len(z)) if labels[p] == segment]
        for p in members:
            total = total + z[p]
        rows.append(unit_vector(total) if members else total)
    return torch.stack(rows) if rows else z.new_zeros(0, z.shape[1])
