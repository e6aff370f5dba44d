"""Predictions in the context of their image: classes that are likely somewhere in it become likelier everywhere.

    score_l(p) = log softmax_l(c_l(p) / tau) + w log mean_q softmax_l(c_l(q) / tau),        q over the coarse map

with c_l(p) the cosine of pixel p and class vector l. The same rule as ``class_scores.assign_in_context``, which
chooses the y_s of training. Not in the paper.

The first term differs from c_l(p) / tau by a number that all classes of a pixel share, before and after bilinear
upsampling. So the best class is that of

    c_l(p) + bias_l,        bias_l = w tau log mean_q softmax_l(c_l(q) / tau)

One number per class and image: upsampling in bands, and in any other size, needs nothing else.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PredictionContext:
    """How much the image decides.

    Attributes:
        weight: w; 0 is the paper's prediction.
        text_temperature: tau of cosines with text vectors.
        pixel_temperature: tau of cosines with prototypes.
    """

    weight: float = 0.0
    text_temperature: float = 0.07
    pixel_temperature: float = 0.07


@torch.no_grad()
def context_bias(cosines: Tensor, temperature: float, weight: float) -> Tensor:
    """bias_l of one image.

    Args:
        cosines: (L, h, w) of the coarse map with the class vectors.
        temperature: tau, above 0.
        weight: w >= 0.

    Returns:
        (L,) values <= 0; all 0 where ``weight`` is 0.

    Example:
        >>> context_bias(torch.zeros(2, 3, 3), 0.07, 0.0)
        tensor([0., 0.])
    """
    if not weight:
        return cosines.new_zeros(len(cosines))
    log_p = (cosines / temperature).flatten(1).log_softmax(0)
    # in log space, so that a class far from every pixel has a finite bias
    return weight * temperature * (log_p.logsumexp(1) - math.log(log_p.shape[1]))
