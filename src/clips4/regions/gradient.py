"""Contours without learned weights: oriented differences of color and texture at several scales.

In the spirit of Pb (Martin, Fowlkes, Malik, TPAMI 2004) and its multi-scale form in gPb (Arbelaez et al., TPAMI 2011):
brightness, color and texture are compared across a pixel's neighborhood, and a logistic function of the differences
estimates the probability that a person would draw a contour there. Half discs and chi-square distances are replaced by
smooth and fast operations: histograms are averaged by a Gaussian, and the derivative of their square roots (Hellinger's
distance, a relative of chi-square) gives a structure tensor, which has the difference across every direction.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from clips4.regions.contour_map import ContourMap, Map, max_strength
from clips4.utils.images import RGB

FLOOR = 0.05  # of a cue, in its standard deviations: differences well below it count alike
TEXTONS = 16
_TEXTON_SAMPLE, _TEXTON_ITERATIONS = 3000, 6
_ROOT_FLOOR = 1e-3  # added to histogram shares, so that the root's slope stays finite


class Cue(NamedTuple):
    """One kind of difference at one scale, and its weight in the logistic function.

    Attributes:
        spread: standard deviation of its strength over photographs.
        weight: of log(strength / spread + FLOOR).
    """

    spread: float
    weight: float


# Fitted by `python benchmarks/fit_gradient.py` to the human contours of BSDS500's 200 train photographs.
CUES = {
    "colors 16": Cue(0.09632, 0.1852),
    "textons 16": Cue(0.05826, 0.3800),
    "colors 8": Cue(0.1093, 0.0863),
    "textons 8": Cue(0.06903, 0.4899),
    "colors 4": Cue(0.1264, 0.7673),
    "textons 4": Cue(0.09155, 0.5433),
    "brightness 2": Cue(3.07, 0.2760),
    "color 2": Cue(1.963, 0.2441),
    "brightness 1": Cue(3.085, 0.4260),
    "color 1": Cue(1.506, 0.2728),
}
BIAS = -4.7569


def gradient_contours(image: RGB) -> ContourMap:
    """(H, W, 3) uint8 -> its contours."""
    activation: Map | None = None
    tensor: Map | None = None
    for cues in _coarse_to_fine(image):  # sums travel from coarse maps to fine ones, enlarged twice each time
        size = next(iter(cues.values())).shape[1:]
        activation = np.zeros(size, np.float32) if activation is None else _enlarge(activation[None], size)[0]
        tensor = np.zeros((3, *size), np.float32) if tensor is None else _enlarge(tensor, size)
        for name, part in cues.items():
            strength, cue = max_strength(part), CUES[name]
            activation += np.float32(cue.weight) * np.log(strength / np.float32(cue.spread) + np.float32(FLOOR))
            tensor += part * (np.float32(cue.weight / cue.spread) / (strength + np.float32(1e-6)))
    assert activation is not None
    assert tensor is not None
    probability = 1 / (1 + np.exp(-(activation + np.float32(BIAS))))
    # the tensor gives the direction, the probability the strength
    tensor *= (probability / np.maximum(max_strength(tensor), 1e-9)) ** 2
    return ContourMap(probability.astype(np.float32), tensor.astype(np.float32))


def cue_strengths(image: RGB) -> dict[str, Map]:
    """(H, W) strength of each cue at the image's size; the input of the fit of the weights."""
    result = {}
    for cues in _coarse_to_fine(image):
        for name, part in cues.items():
            strength = max_strength(part)[None]
            for size in _sizes(image.shape[:2], strength.shape[1:]):
                strength = _enlarge(strength, size)
            result[name] = strength[0]
    return result


def _sizes(size: tuple[int, ...], small: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Sizes of the maps between a small one and the image's, growing."""
    sizes = [size]
    while sizes[0] != small:
        height, width = sizes[0]
        sizes.insert(0, ((height + 1) // 2, (width + 1) // 2))
    return sizes[1:]


def _coarse_to_fine(image: RGB) -> Iterator[dict[str, Map]]:
    """Structure tensors (3, h, w) of the cues, by scale: a 16th of the image's size, an 8th, ... the whole."""
    full = to_lab(image)
    half = _halve(full)
    quarter_colors = _halve(_color_shares(half))
    quarter_textons = _halve(_texton_shares(half[0]))
    levels: list[dict[str, Map]] = [
        {"brightness 1": structure_tensor(_blur(full[:1], 1.0)), "color 1": structure_tensor(_blur(full[1:], 1.0))},
        {"brightness 2": structure_tensor(_blur(half[:1], 1.0)), "color 2": structure_tensor(_blur(half[1:], 1.0))},
    ]
    colors, textons = _blur(quarter_colors, 1.0), _blur(quarter_textons, 1.0)
    for scale in (4, 8, 16):
        if scale > 4:
            colors, textons = _blur(_halve(colors), 1.0), _blur(_halve(textons), 1.0)
        levels.append({f"colors {scale}": _share_tensor(colors), f"textons {scale}": _share_tensor(textons)})
    yield from reversed(levels)


# ------------------------------------------------------------------------------------------------------ channels


def to_lab(image: RGB) -> Map:
    """(H, W, 3) sRGB uint8 -> (3, H, W) CIE Lab under D65: L in [0, 100], a and b within some 110 of 0."""
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)[image]
    to_xyz = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    xyz = linear @ (to_xyz / np.array([[0.95047], [1.0], [1.08883]])).T.astype(np.float32)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + np.float32(16 / 116))
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _color_shares(lab: Map) -> Map:
    """(3, H, W) Lab -> (32, H, W) shares of 8 bins of L and 12 of each of a and b; a value is shared by two bins."""
    return np.concatenate([_bins(lab[0], 0, 100, 8), _bins(lab[1], -60, 70, 12), _bins(lab[2], -70, 80, 12)])


def _bins(values: Map, low: float, high: float, count: int) -> Map:
    place = np.clip((values - low) / (high - low), 0, 1) * (count - 1)
    return np.stack([np.maximum(1 - np.abs(place - index), 0) for index in range(count)]).astype(np.float32)


def _texton_shares(brightness: Map) -> Map:
    """(H, W) -> (TEXTONS, H, W) one-hot kind of texture of each pixel, among the image's own kinds.

    Kinds are clusters of the first and second derivatives at two scales, their length compressed by a logarithm.
    """
    orders = ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0))
    responses = np.stack(
        [gaussian_filter(brightness, s, order) * s ** sum(order) for s in (0.7, 1.4) for order in orders]
    )
    length = np.sqrt((responses**2).sum(0))
    responses *= np.log1p(length / 2) / (length + 1e-6)
    kinds = _nearest(_k_means(responses.reshape(len(responses), -1).T), responses.reshape(len(responses), -1).T)
    return (kinds.reshape(brightness.shape) == np.arange(TEXTONS)[:, None, None]).astype(np.float32)


def _k_means(vectors: Map) -> Map:
    """(N, D) -> (TEXTONS, D) centers by Lloyd's algorithm on a fixed sample, initialized from flat to rough."""
    draw = np.random.default_rng(0).integers(0, len(vectors), _TEXTON_SAMPLE)
    sample = vectors[draw]
    by_length = np.argsort((sample**2).sum(1), kind="stable")
    centers = sample[by_length[np.linspace(0, len(sample) - 1, TEXTONS).astype(int)]]
    for _ in range(_TEXTON_ITERATIONS):
        nearest = _nearest(centers, sample)
        members = np.bincount(nearest, minlength=TEXTONS)[:, None]
        sums = np.stack([np.bincount(nearest, column, TEXTONS) for column in sample.T], 1)
        centers = np.where(members > 0, sums / np.maximum(members, 1), centers).astype(np.float32)
    return centers


def _nearest(centers: Map, vectors: Map) -> NDArray[np.intp]:
    return ((centers**2).sum(1) - 2 * vectors @ centers.T).argmin(1)


# ---------------------------------------------------------------------------------------------------- differences


def structure_tensor(channels: Map) -> Map:
    """(C, H, W) -> (3, H, W): sums over the channels of their derivatives' products xx, xy, yy, per pixel step."""
    x, y = (
        np.gradient(channels, axis=axis) if channels.shape[axis] > 1 else np.zeros_like(channels) for axis in (2, 1)
    )
    return np.stack([np.einsum("chw,chw->hw", a, b) for a, b in ((x, x), (x, y), (y, y))])


def _share_tensor(shares: Map) -> Map:
    return structure_tensor(np.sqrt(shares + np.float32(_ROOT_FLOOR)))


def _blur(channels: Map, sigma: float) -> Map:
    for axis in (1, 2):
        channels = gaussian_filter1d(channels, sigma, axis=axis, mode="nearest", truncate=3)
    return channels


def _halve(channels: Map) -> Map:
    """(C, H, W) -> (C, (H + 1) // 2, (W + 1) // 2) means of 2 x 2 pixels."""
    _, height, width = channels.shape
    if height % 2 or width % 2:
        channels = np.pad(channels, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    columns = channels[:, :, ::2] + channels[:, :, 1::2]
    return np.float32(0.25) * (columns[:, ::2] + columns[:, 1::2])


def _enlarge(channels: Map, size: tuple[int, ...]) -> Map:
    """(C, h, w) -> (C, *size), twice as large but for an odd last row or column; bilinear, on the same grid."""
    height, width = size
    box = (0, 0, width / 2, height / 2)
    return np.stack(
        [np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BILINEAR, box)) for c in channels]
    )
