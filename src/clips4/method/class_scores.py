"""Scores of classes, and the class of each segment by them: y_s of CLIP-S4 section 3.3.

A class has one vector, or several of which the nearest counts (``prototypes.per_class``):

    score_l(i) = max_j i . c_lj        with c_lj the vectors of class l

Class vectors are rows (L, D). ``groups`` (L,) names the class of each row; None says that each row is a class of its
own, and the score is the cosine itself.
"""

import torch
from torch import Tensor

_TINY = 1e-12


def class_scores(cosines: Tensor, groups: Tensor | None, dim: int = -1) -> Tensor:
    """The cosine with the nearest vector of each class: max over j of cosine_lj.

    Its gradient goes to the nearest vector; equally near ones share it.

    Args:
        cosines: (..., L, ...) with all class vectors.
        groups: (L,) int64, the class 0..C-1 of each vector, where each class has a vector; on the CPU, so that
            counting classes does not wait for a device. None returns the cosines.
        dim: the dimension of the vectors.

    Returns:
        (..., C, ...).

    Example:
        >>> class_scores(torch.tensor([[0.1, 0.7, 0.4]]), torch.tensor([0, 0, 1]))
        tensor([[0.7000, 0.4000]])
    """
    if groups is None:
        return cosines
    shape, along = list(cosines.shape), [1] * cosines.ndim
    shape[dim], along[dim] = int(groups.max()) + 1, -1
    index = groups.to(cosines.device).view(along).expand_as(cosines)
    return cosines.new_full(shape, -torch.inf).scatter_reduce(dim, index, cosines, "amax")


@torch.no_grad()
def assign(guidance: Tensor, prototypes: Tensor, groups: Tensor | None = None) -> Tensor:
    """y_s = argmax_l score_l(i_s): (S, D), (L, D), (L,) -> (S,) int64."""
    return class_scores(guidance @ prototypes.T, groups).argmax(1)


@torch.no_grad()
def assign_in_context(
    guidance: Tensor,
    prototypes: Tensor,
    image: Tensor,
    images: int,
    temperature: float,
    context: float,
    groups: Tensor | None = None,
) -> Tensor:
    """y_s with a prior from the rest of the image: its likely classes become more likely (not in the paper).

        y_s = argmax_l  log p(l | i_s) + context * log mean_{s' of the same image} p(l | i_s'),
        p(l | i_s) = softmax_l(score_l(i_s) / tau)

    The teacher's mistakes scatter over many classes, each in few places of an image; its correct classes agree.
    ``context`` = 1 is one step of a mixture whose class weights are each image's own; 0 is ``assign``.

    Args:
        guidance: (S, D) i_s, unit rows.
        prototypes: (L, D) unit rows.
        image: (S,) image of each segment, 0..images - 1; the views of an image share it.
        images: their number.
        temperature: tau.
        context: weight of the rest of the image.
        groups: see ``class_scores``.

    Returns:
        (S,) int64.
    """
    if not context:
        return assign(guidance, prototypes, groups)
    log_p = log_probability(guidance @ prototypes.T, temperature, groups)
    weights = _class_weights(log_p, image, images)
    return (log_p + context * weights.log()[image]).argmax(1)


def log_probability(cosines: Tensor, temperature: float, groups: Tensor | None = None) -> Tensor:
    """(N, L) cosines -> (N, C) log softmax over classes of score / tau."""
    return (class_scores(cosines, groups) / temperature).log_softmax(1)


def _class_weights(log_p: Tensor, image: Tensor, images: int) -> Tensor:
    """(images, C) mean probability of each class over an image's rows, clamped above zero."""
    sums = log_p.new_zeros(images, log_p.shape[1]).index_add(0, image, log_p.exp())
    counts = log_p.new_zeros(images).index_add(0, image, log_p.new_ones(len(image)))
    return (sums / counts.clamp(min=1)[:, None]).clamp(min=_TINY)
