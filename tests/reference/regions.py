"""Region merging, straight pieces, hierarchies and their scores, one pixel at a time."""

import math
from itertools import product

import numpy as np

Grid = np.ndarray


def cracks(labels: Grid) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of neighbouring pixels of different labels, left or upper one first."""
    height, width = labels.shape
    found = set()
    for y, x in product(range(height), range(width)):
        for other in ((y, x + 1), (y + 1, x)):
            if other[0] < height and other[1] < width and labels[y, x] != labels[other]:
                found.add(((y, x), other))
    return found


def straight_pieces(points: list[tuple[float, float]], tolerance: float) -> list[int]:
    """Corners of a polyline at which Ramer-Douglas-Peucker, by recursion, begins its pieces."""

    def distance(p: tuple[float, float], a: tuple[float, float], b: tuple[float, float]) -> float:
        length = math.hypot(b[0] - a[0], b[1] - a[1])
        if not length:
            return math.hypot(p[0] - a[0], p[1] - a[1])
        return abs((p[0] - a[0]) * (b[1] - a[1]) / length - (p[1] - a[1]) * (b[0] - a[0]) / length)

    def split(first: int, last: int) -> list[int]:
        inside = range(first + 1, last)
        far = max((distance(points[i], points[first], points[last]) for i in inside), default=0.0)
        if far <= tolerance:
            return [first]
        at = next(i for i in inside if distance(points[i], points[first], points[last]) == far)
        return split(first, at) + split(at, last)

    return split(0, len(points) - 1)


def merge(labels: Grid, strength: dict[tuple[tuple[int, int], tuple[int, int]], float], small: float) -> list[float]:
    """Heights of all merges: each time, every boundary's mean is taken anew from its cracks."""
    labels = labels.copy()
    heights = []
    while len(set(labels.flat)) > 1:
        of_pair: dict[tuple[int, int], list[float]] = {}
        for p, q in cracks(labels):
            pair = (min(labels[p], labels[q]), max(labels[p], labels[q]))
            of_pair.setdefault(pair, []).append(strength[p, q])
        costs = {}
        for (a, b), values in of_pair.items():
            area = min((labels == a).sum(), (labels == b).sum())
            costs[a, b] = math.fsum(values) / len(values) * (min(1.0, area / small) ** 0.5 if small else 1.0)
        weakest = min(costs, key=lambda pair: costs[pair])
        heights.append(costs[weakest])
        labels[labels == weakest[1]] = weakest[0]
    return heights


def joined_at(leaves: int, merges: Grid, heights: Grid, a: int, b: int) -> float:
    """Height at which two leaves come into one node, by lists of members."""
    members = {leaf: {leaf} for leaf in range(leaves)}
    if a == b:
        return 0.0
    for number, ((one, other), height) in enumerate(zip(merges.tolist(), heights.tolist(), strict=True)):
        members[leaves + number] = members[one] | members[other]
        if {a, b} <= members[leaves + number]:
            return height
    raise AssertionError("the tree has no root")


def covering(labels: Grid, truth: Grid) -> float:
    """Equation 9 of Arbelaez et al. 2011: (1 / N) sum over R of |R| max over R' of |R & R'| / |R | R'|."""
    total = 0.0
    for part in np.unique(truth):
        best = 0.0
        for region in np.unique(labels):
            inside = np.sum((truth == part) & (labels == region))
            best = max(best, inside / np.sum((truth == part) | (labels == region)))
        total += np.sum(truth == part) * best
    return total / truth.size


def undersegmentation(labels: Grid, truth: Grid) -> float:
    total = 0
    for part in np.unique(truth):
        for region in np.unique(labels):
            inside = int(np.sum((labels == region) & (truth == part)))
            if inside:
                total += min(inside, int(np.sum(labels == region)) - inside)
    return total / truth.size


def near(edges: Grid, y: int, x: int, tolerance: float) -> bool:
    return any(math.hypot(y - j, x - i) <= tolerance for j, i in zip(*np.nonzero(edges), strict=True))


def hed(image: Grid, weights: dict[str, Grid]) -> Grid:
    """HED in plain numpy, from the arrays of the Keras file: (H, W, 3) RGB 0..255 -> (H, W) fused edge strength."""

    def convolve(x: Grid, name: str) -> Grid:
        kernel, bias = weights[f"{name}/vars/0"], weights[f"{name}/vars/1"]
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        height, width = x.shape[:2]
        return sum(padded[j : j + height, i : i + width] @ kernel[j, i] for j in range(3) for i in range(3)) + bias

    def pool(x: Grid) -> Grid:
        height, width, channels = x.shape
        padded = np.full((height + height % 2, width + width % 2, channels), -np.inf)
        padded[:height, :width] = x
        return padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2, channels).max((1, 3))

    def enlarge(x: Grid, height: int, width: int) -> Grid:
        def places(size: int, old: int) -> tuple[Grid, Grid, Grid]:
            at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
            low = np.floor(at).astype(int)
            return low, np.minimum(low + 1, old - 1), at - low

        (top, bottom, v), (left, right, u) = places(height, x.shape[0]), places(width, x.shape[1])
        rows = x[top] * (1 - v)[:, None] + x[bottom] * v[:, None]
        return rows[:, left] * (1 - u) + rows[:, right] * u

    height, width = image.shape[:2]
    x = image[..., ::-1].astype(np.float64) - np.array([104.00699, 116.66877, 122.67892])
    fused = np.zeros((height, width))
    for block, convolutions in enumerate((2, 2, 3, 3, 3), 1):
        if block > 1:
            x = pool(x)
        for number in range(convolutions):
            x = np.maximum(convolve(x, f"block{block}/layers/conv2d" + (f"_{number}" if number else "")), 0)
        side = x @ weights[f"dsn{block}/vars/0"][0, 0, :, 0] + weights[f"dsn{block}/vars/1"][0]
        fused += weights["fuse/vars/0"][0, 0, block - 1, 0] * enlarge(side, height, width)
    return 1 / (1 + np.exp(-(fused + weights["fuse/vars/1"][0])))
