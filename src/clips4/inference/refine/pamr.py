"""Pixel-adaptive mask refinement, PAMR.

Araslanov & Roth, "Single-Stage Semantic Segmentation from Image Labels" (CVPR 2020), section 3.3. Scores are averaged
repeatedly over the eight neighbors at each of several distances, weighted by similarity of color:

    alpha(i, n) = softmax_n( - mean_c |x_ic - x_nc| / (0.1 sigma_ic) ),        m_i <- sum_n alpha(i, n) m_n

with sigma_ic the standard deviation of channel c over the neighbors of i and i itself (once per distance).
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

DILATIONS = (8, 16)  # as training-free segmentation by CLIP uses it; the paper has 1, 2, 4, 8, 12, 24
ITERATIONS = 10
_OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def neighbors(values: Tensor, dilations: Sequence[int] = DILATIONS) -> Iterator[Tensor]:
    """For each distance and direction, (C, H, W) values shifted so that a pixel holds its neighbor's; edges repeat."""
    height, width = values.shape[-2:]
    for reach in dilations:
        padded = F.pad(values[None], [reach] * 4, mode="replicate")[0]
        for dy, dx in _OFFSETS:
            top, left = reach * (1 + dy), reach * (1 + dx)
            yield padded[..., top : top + height, left : left + width]


def pamr_affinity(image: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """alpha: (3, H, W) -> (8 |dilations|, H, W), summing to 1 over the neighbors."""
    around = [*neighbors(image, dilations), *[image] * len(dilations)]
    sigma = torch.stack(around).std(0)
    unlike = [(image - other).abs() / (0.1 * sigma + 1e-8) for other in neighbors(image, dilations)]
    return torch.stack([-values.mean(0) for values in unlike]).softmax(0)


def refine_by_affinity(
    scores: Tensor, affinity: Tensor, iterations: int = ITERATIONS, dilations: Sequence[int] = DILATIONS
) -> Tensor:
    """m: (C, H, W) scores -> the same averaged ``iterations`` times; one neighbor in memory at a time."""
    for _ in range(iterations):
        averaged = torch.zeros_like(scores)
        for weight, moved in zip(affinity, neighbors(scores, dilations), strict=True):
            averaged.addcmul_(weight.to(scores), moved)
        scores = averaged
    return scores
