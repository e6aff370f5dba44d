"""The class of every pixel: scores of a coarse map upsampled to the image's size, then argmax, in bounded memory.

Scores are upsampled some rows of the image at a time (a "band"), or tile by tile if a refinement needs the surroundings
of each pixel. So a photograph of 20 megapixels needs no more memory than a small one, apart from its label map.
"""

from collections.abc import Iterator
from math import floor

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.inference.refine.maskclip import PamrRefiner
from clips4.inference.refine.pamr import DILATIONS, ITERATIONS
from clips4.method.class_scores import class_scores
from clips4.utils.images import RGB
from clips4.utils.tensors import resize_map, to_tensor

BAND = 2**18  # upsampled scores in a band: few enough to stay in a processor's cache
BANDS, BAND_PIXELS = 12, 2**19  # labels are made in so many bands, of so many pixels at most
LOGIT_BUDGET = 2**24  # values of upsampled scores of a tile held at a time
TILE = 640  # side of the tiles that PAMR refines, without their surroundings
PAMR_REACH = max(DILATIONS) * ITERATIONS  # pixels; no value depends on pixels farther away


@torch.no_grad()
def nearest_class(
    z: Tensor, vectors: Tensor, size: tuple[int, ...], groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines upsampled to the image's size, then argmax.

    Args:
        z: (D, h, w) unit along D.
        vectors: (L, D) unit rows.
        size: (H, W).
        groups: (L,) the class of each vector; None: each is a class.

    Returns:
        (H, W) int64 labels 0..L-1 (the lowest where equal) and (H, W) the cosine of each pixel's label.
    """
    labels, best = best_class(torch.einsum("dhw,ld->lhw", z, vectors), size)
    return (labels if groups is None else groups.to(labels.device)[labels]), best


@torch.no_grad()
def best_class(scores: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Scores (L, h, w) upsampled to (H, W), then argmax.

    Returns:
        (H, W) int64 labels 0..L-1 (the lowest where equal) and (H, W) the score of each pixel's label.
    """
    height, width = size[0], size[1]
    labels = torch.empty(height, width, dtype=torch.long, device=scores.device)
    best = torch.empty(height, width, dtype=scores.dtype, device=scores.device)
    padded = F.pad(scores[None], (1, 1, 1, 1), mode="replicate")[0]
    classes_last = scores.permute(1, 2, 0).contiguous()[None]
    rows = max(1, min(-(-height // BANDS), BAND_PIXELS // width))
    for top in range(0, height, rows):
        band = slice(top, min(top + rows, height))
        first, last = (floor((row + 0.5) * scores.shape[1] / height - 0.5) + 1 for row in (band.start, band.stop - 1))
        kept = contenders(padded[:, first : last + 2])
        vertical = _interpolate(classes_last[..., kept], 1, height, band).permute(0, 3, 1, 2)
        best[band], place = resize_map(vertical, (_length(band), width))[0].max(0)
        labels[band] = kept[place]
    return labels, best


def contenders(scores: Tensor) -> Tensor:
    """Classes that may be the best somewhere between positions: (L, h, w) -> (L',) increasing indices; most are not.

    Between four positions scores are weighted means of those at the four. A class can be the best there only if each
    class that wins at one of the four is no better than it at one of them at least.
    """
    corners = torch.stack([scores[:, :-1, :-1], scores[:, 1:, :-1], scores[:, :-1, 1:], scores[:, 1:, 1:]])
    possible = torch.ones_like(corners[0], dtype=torch.bool)
    for winner in corners.argmax(1):
        possible &= (corners >= corners.gather(1, winner[None, None].expand(4, 1, -1, -1))).any(0)
    return possible.flatten(1).any(1).nonzero()[:, 0]


@torch.no_grad()
def pamr_class(scores: Tensor, image: RGB) -> tuple[Tensor, Tensor]:
    """``best_class`` of scores that PAMR refines at the image's own size (H, W, 3), tile by tile.

    A tile is refined together with all pixels that its values depend on, so that no seams appear.
    """
    height, width = image.shape[:2]

    def tiles() -> Iterator[tuple[tuple[slice, slice], Tensor]]:
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                inner = slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))
                outer = tuple(
                    slice(max(0, part.start - PAMR_REACH), min(side, part.stop + PAMR_REACH))
                    for part, side in zip(inner, (height, width), strict=True)
                )
                refine = PamrRefiner(to_tensor(image[outer]).to(scores.device))
                within = tuple(
                    slice(part.start - around.start, part.stop - around.start)
                    for part, around in zip(inner, outer, strict=True)
                )
                at_once = max(1, LOGIT_BUDGET // (_length(outer[0]) * _length(outer[1])))
                refined = [
                    refine(upsampled_window(some, (height, width), outer[0], outer[1]))[:, within[0], within[1]]
                    for some in scores.split(at_once)
                ]
                yield inner, torch.cat(refined)

    return _collect(scores, (height, width), tiles())


@torch.no_grad()
def best_probability(
    scores: Tensor, size: tuple[int, ...], labels: Tensor, sharpness: float, groups: Tensor | None = None
) -> Tensor:
    """(H, W) softmax probability, among L classes, of the given class of each pixel.

    Args:
        scores: (L, h, w) cosines.
        size: (H, W).
        labels: (H, W) in 0..L-1.
        sharpness: of the softmax: cosines are multiplied by it.
        groups: (L,) the class of each score and label; see ``class_scores``.
    """
    if groups is not None:
        labels = groups.to(labels.device)[labels]
    probability = torch.empty(size[0], size[1], dtype=scores.dtype, device=scores.device)
    for (rows, _), large in upsampled_bands(scores, size):
        shares = (sharpness * class_scores(large, groups, 0)).softmax(0)
        probability[rows] = shares.gather(0, labels[rows][None])[0]
    return probability


def _collect(
    scores: Tensor, size: tuple[int, int], parts: Iterator[tuple[tuple[slice, slice], Tensor]]
) -> tuple[Tensor, Tensor]:
    """Argmax of each part of the image, which comes with its place."""
    labels = torch.empty(size, dtype=torch.long, device=scores.device)
    best = torch.empty(size, dtype=scores.dtype, device=scores.device)
    for place, large in parts:
        best[place], labels[place] = large.max(0)
    return labels, best


def _length(part: slice) -> int:
    return int(part.stop - part.start)


# ---------------------------------------------------------------------------------------------------- upsampling


def upsampled_bands(scores: Tensor, size: tuple[int, ...]) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """(L, h, w) resized to (H, W) as ``tensors.resize_map`` does, some rows of the result at a time.

    Yields:
        The place of a band in the image, and its scores (L, rows, W).
    """
    height, width = size[0], size[1]
    rows = max(1, BAND // (width * len(scores)))
    # classes last in memory: both resizing and argmax are several times faster so
    classes_last = scores.permute(1, 2, 0).contiguous()[None]
    for top in range(0, height, rows):
        band = slice(top, min(top + rows, height))
        vertical = _interpolate(classes_last, 1, height, band).permute(0, 3, 1, 2)
        yield (band, slice(0, width)), resize_map(vertical, (_length(band), width))[0]


def upsampled_window(scores: Tensor, size: tuple[int, int], rows: slice, columns: slice) -> Tensor:
    """Part of (L, h, w) resized to (H, W): the given rows and columns of the result, (L, rows, columns)."""
    return _interpolate(_interpolate(scores, 1, size[0], rows), 2, size[1], columns)


def _interpolate(values: Tensor, dim: int, length: int, part: slice) -> Tensor:
    """Bilinear resizing of one dimension to ``length``, sampled at pixel centers; only ``part`` of the result."""
    have = values.shape[dim]
    places = torch.arange(part.start, part.stop, device=values.device, dtype=torch.float32)
    at = ((places + 0.5) * (have / length) - 0.5).clamp(0, have - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=have - 1)
    shape = [1] * values.ndim
    shape[dim] = -1
    return torch.lerp(values.index_select(dim, low), values.index_select(dim, high), (at - low).to(values).view(shape))
