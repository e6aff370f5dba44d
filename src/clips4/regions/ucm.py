"""Ultrametric contour maps: regions merged one pair at a time, by the mean strength of the boundary they share.

Arbelaez, Maire, Fowlkes, Malik, "Contour Detection and Hierarchical Image Segmentation", TPAMI 2011, section 4.2.
The whole hierarchy is stored as a tree over the leaves; a table look-up gives any of its levels.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clips4.regions.contour_map import ContourMap
from clips4.regions.watershed import Arcs, Ints, boundary_cracks, oriented_watershed


@dataclass(frozen=True)
class Hierarchy:
    """Nested regions of one image. Node i < L is leaf i; merge j makes node L + j of two earlier ones.

    Attributes:
        leaves: (H, W) int32 regions 0..L-1, each 4-connected.
        merges: (L - 1, 2) int32 the two nodes that each merge joins.
        heights: (L - 1,) float32, ascending: the mean strength of the boundary that is removed.
    """

    leaves: NDArray[np.int32]
    merges: NDArray[np.int32]
    heights: NDArray[np.float32]

    @property
    def count(self) -> int:
        """Number of leaves, L."""
        return len(self.merges) + 1

    def at_threshold(self, threshold: float) -> NDArray[np.int32]:
        """(H, W) regions 0..R-1 after removing every boundary of mean strength ``threshold`` or less."""
        return self.table(self.merges_up_to(threshold))[self.leaves]

    def at_count(self, count: int) -> NDArray[np.int32]:
        """(H, W) ``count`` regions, or all leaves if there are fewer."""
        if count < 1:
            raise ValueError(f"count is a positive number of regions, got {count}")
        return self.table(max(self.count - count, 0))[self.leaves]

    def at_most(self, count: int, threshold: float = 0.0) -> NDArray[np.int32]:
        """(H, W) regions at ``threshold``, or ``count`` regions if there would be more."""
        if count < 1:
            raise ValueError(f"count is a positive number of regions, got {count}")
        return self.table(max(self.count - count, self.merges_up_to(threshold)))[self.leaves]

    def coarsened(self, count: int) -> "Hierarchy":
        """The same hierarchy with at most ``count`` leaves: the regions at that count."""
        done = max(self.count - count, 0)
        if not done:
            return self
        table = self.table(done)
        # a node's new number: its region if it is complete by then, else less by the number of removed leaves
        number = np.full(2 * self.count - 1, -1, np.int64)
        parents = self._parents(done)
        top = parents
        while not np.array_equal(top[top], top):
            top = top[top]
        number[top[: self.count]] = table
        kept = self.count - done
        later = np.arange(self.count + done, 2 * self.count - 1)
        number[later] = kept + np.arange(len(later))
        return Hierarchy(table[self.leaves], number[self.merges[done:]].astype(np.int32), self.heights[done:])

    def enlarged(self, size: tuple[int, ...]) -> "Hierarchy":
        """The same hierarchy on (H, W), at least as large: repeated rows and columns keep regions connected."""
        if self.leaves.shape == tuple(size):
            return self
        rows, columns = (np.arange(new) * old // new for new, old in zip(size, self.leaves.shape, strict=True))
        return Hierarchy(self.leaves[rows][:, columns], self.merges, self.heights)

    def merges_up_to(self, threshold: float) -> int:
        """Number of merges of height ``threshold`` or less."""
        return int(np.searchsorted(self.heights, np.float32(threshold), side="right"))

    def table(self, merges: int) -> NDArray[np.int32]:
        """(L,) region 0..R-1 of each leaf after the first ``merges`` merges, R = L - merges."""
        nodes = self._parents(merges)
        while True:  # each round climbs twice as far
            further = nodes[nodes]
            if np.array_equal(further, nodes):
                break
            nodes = further
        number: NDArray[np.int32] = np.unique(nodes[: self.count], return_inverse=True)[1].astype(np.int32)
        return number

    def _parents(self, merges: int) -> Ints:
        """(2 L - 1,) the node that each node is merged into by the first ``merges`` merges; itself if by none."""
        nodes = np.arange(2 * self.count - 1)
        nodes[self.merges[:merges].ravel()] = self.count + np.repeat(np.arange(merges), 2)
        return nodes

    def merge_heights(self, pairs: NDArray[np.integer]) -> NDArray[np.float32]:
        """(E, 2) pairs of leaves -> (E,) height at which they become one region; 0 for a leaf and itself."""
        parents = self._parents(len(self.merges))
        one, other = pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
        while True:  # the younger node climbs: parents are numbered above their children
            apart = np.flatnonzero(one != other)
            if not len(apart):
                break
            a, b = one[apart], other[apart]
            one[apart], other[apart] = np.where(a < b, parents[a], a), np.where(a < b, b, parents[b])
        heights = np.concatenate([np.zeros(self.count, np.float32), self.heights])
        return heights[one]

    def to_ucm2(self) -> NDArray[np.float32]:
        """(2 H + 1, 2 W + 1) the ultrametric contour map on the doubled grid, as published with BSDS500.

        Pixel (y, x) lies at (2 y + 1, 2 x + 1); between two pixels is the height at which they become one region, at a
        corner the maximum height of the contours that meet there, and along the image's border 0.
        """
        height, width = self.leaves.shape
        ucm2 = np.zeros((2 * height + 1, 2 * width + 1), np.float32)
        cracks = boundary_cracks(self.leaves)
        pairs, place = np.unique(np.sort(self.leaves.ravel()[cracks.pixels], axis=1), axis=0, return_inverse=True)
        values = self.merge_heights(pairs)[place.ravel()]
        y, x = np.divmod(cracks.pixels, width)
        ucm2[y.sum(1) + 1, x.sum(1) + 1] = values
        y, x = np.divmod(cracks.vertices, width + 1)
        for end in (0, 1):
            np.maximum.at(ucm2, (2 * y[:, end], 2 * x[:, end]), values)
        return ucm2


def owt_ucm(contours: ContourMap, small_share: float = 0.0) -> Hierarchy:
    """The hierarchy of a contour map: oriented watershed, then merging.

    Args:
        contours: of an image.
        small_share: share of the image; a smaller region is merged earlier the smaller it is. 0 merges by mean strength
            alone.
    """
    return merge_regions(oriented_watershed(contours), small_share * contours.strength.size)


def merge_regions(arcs: Arcs, small: float = 0.0) -> Hierarchy:
    """Merge the two regions whose shared boundary is weakest, until one is left.

    A boundary's strength is its mean strength; if the smaller region has fewer than ``small`` pixels, it is
    multiplied by the root of that share, so that specks do not outlast objects. A new boundary's mean is that of its
    parts, weighted by their lengths, and regions only grow: no boundary is weaker than the one just removed. So heights
    never decrease, and the map is ultrametric by construction.
    """
    areas = np.bincount(arcs.leaves.ravel()).tolist()
    count = len(areas)
    neighbors: list[dict[int, list[float]]] = [{} for _ in range(count)]  # region -> [sum, length, strength]
    heap: list[tuple[float, int, int]] = []

    def strength(total: float, length: float, a: int, b: int) -> float:
        area = min(areas[a], areas[b])
        mean = total / length
        return mean * (area / small) ** 0.5 if area < small else mean

    def push(arc: list[float], a: int, b: int) -> None:
        arc[2] = strength(arc[0], arc[1], a, b)
        heapq.heappush(heap, (arc[2], a, b) if a < b else (arc[2], b, a))

    for (a, b), total, length in zip(arcs.pairs.tolist(), arcs.sums.tolist(), arcs.lengths.tolist(), strict=True):
        neighbors[a][b] = neighbors[b][a] = [total, length, strength(total, length, a, b)]
        heap.append((neighbors[a][b][2], a, b))
    heapq.heapify(heap)

    node = list(range(count))  # the tree's node that a region stands for
    merges: list[tuple[int, int]] = []
    heights: list[float] = []
    height = 0.0
    while heap:
        weakest, a, b = heapq.heappop(heap)
        found = neighbors[a].get(b)
        if found is None or found[2] != weakest:
            continue  # outdated
        if len(neighbors[a]) < len(neighbors[b]):
            a, b = b, a  # the one with more neighbors keeps its number, so that few arcs change
        height = max(height, weakest)  # rounding only
        merges.append((node[a], node[b]))
        heights.append(height)
        node[a] = count + len(merges) - 1
        around, other = neighbors[a], neighbors[b]
        del around[b], other[a]
        was_small = areas[a] < small
        areas[a] += areas[b]
        for region, arc in other.items():
            there = neighbors[region]
            del there[b]
            if region in around:
                shared = around[region]
                arc = [shared[0] + arc[0], shared[1] + arc[1], 0.0]
            around[region] = there[a] = arc
            push(arc, a, region)
        if was_small:
            for region, arc in around.items():
                if region not in other:
                    push(arc, a, region)
        neighbors[b] = {}
    return Hierarchy(arcs.leaves, np.array(merges, np.int32).reshape(-1, 2), np.array(heights, np.float32))
