"""Class prototypes c_l: unit vectors of classes in the teacher's pixel space.

CLIP-S4 section 3.3. A class's text vector lies far from its pixels' vectors, so text is only used to find pixels:

    c_l = normalize( sum of the m teacher segments nearest to text_l )      for the K known classes
    c_l = a randomly drawn teacher segment, then moved to its segments      for the U unknown classes

Or a known class keeps its m segments, of which the nearest counts (``prototypes.per_class=nearest``; the paper's
description allows both): c_l1 .. c_lm, rows (K * m, D) class by class, nearest to text_l first; see ``class_scores``.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import PerClass
from clips4.method.class_scores import assign, class_scores, log_probability
from clips4.utils import distributed

_TINY = 1e-12
PIXEL_BLOCK = 2**16  # rows of z that are compared with all classes at a time

BANK_NEAREST = 8  # m of new names, in a run's bank; 4 to 32 are alike, 1 is worse (docs/journal.md)


@torch.no_grad()
def text_dimensions(text: Tensor) -> Tensor:
    """(D,) bool: the dimensions in which any name is not zero.

    A teacher may have others that hold its confidence and no class (``teachers.conse``); classes are assigned in the
    text dimensions alone.
    """
    return (text != 0).any(0)


@torch.no_grad()
def nearest_segments(text: Tensor, segments: Tensor, m: int) -> Tensor:
    """(K, m) indices of the segments nearest to each class's text vector, nearest first; see ``known_prototypes``."""
    if m < 1:
        raise ValueError(f"m is a positive number of segments, got {m}")
    if text.ndim != 2 or segments.ndim != 2 or text.shape[1] != segments.shape[1] or not len(segments):
        raise ValueError(f"expected text (K, D) and segments (S, D), got {tuple(text.shape)}, {tuple(segments.shape)}")
    return (text @ _in_text_dimensions(segments, text).T).topk(min(m, len(segments)), dim=1).indices


@torch.no_grad()
def known_prototypes(
    text: Tensor, segments: Tensor, m: int, seen: Tensor | None = None, per_class: PerClass = "mean"
) -> Tensor:
    """The normalized mean of the m segments nearest to each class's text vector, or these segments themselves.

    Args:
        text: (K, D) unit rows.
        segments: (S, D) unit rows, the teacher segments of the training images.
        m: segments per class; all of them where there are fewer.
        seen: (S, D) unit rows that are taken instead, such as the student's of the same segments.
        per_class: "mean", or "nearest" for all m.

    Returns:
        (K, D) unit rows, 0 in dimensions that no name has; (K * min(m, S), D), class by class, of "nearest".

    Raises:
        ValueError: m is not positive, there is no segment, or the dimensions differ.
    """
    nearest = nearest_segments(text, segments, m)
    rows = _in_text_dimensions(segments if seen is None else seen, text)[nearest]
    return F.normalize(rows.sum(1) if per_class == "mean" else rows.flatten(0, 1), dim=1)


@torch.no_grad()
def exclusive_prototypes(
    text: Tensor,
    segments: Tensor,
    m: int,
    sample: Tensor,
    seen: Tensor | None = None,
    least: int = 4,
    per_class: PerClass = "mean",
) -> Tensor:
    """``known_prototypes`` where each segment counts for one class: the one whose standardized cosine is largest.

        k(s) = argmax_k (s . text_k - mean_k) / std_k        mean and standard deviation over the sample

    So a class whose text lies near everything does not take the segments of others. Not in the paper.

    Args:
        text, segments, m, seen, per_class: see ``known_prototypes``.
        sample: (R, D) random segments of the set.
        least: a class with fewer segments takes its nearest from all.

    Returns:
        See ``known_prototypes``; of "nearest", a class with fewer than m segments repeats its nearest one, which
        changes no maximum.
    """
    cosines = _in_text_dimensions(segments, text) @ text.T
    typical = _in_text_dimensions(sample, text) @ text.T
    standardized = (cosines - typical.mean(0)) / typical.std(0, correction=0).clamp(min=1e-6)
    own = F.one_hot(standardized.argmax(1), len(text)).bool()
    own |= own.sum(0) < least
    nearest = cosines.masked_fill(~own, -torch.inf).topk(min(m, len(segments)), dim=0)
    if per_class == "nearest":
        chosen = torch.where(nearest.values.isfinite(), nearest.indices, nearest.indices[:1])
        rows = _in_text_dimensions(segments if seen is None else seen, text)
        return F.normalize(rows[chosen.T].flatten(0, 1), dim=1)
    weights = torch.zeros_like(cosines).scatter_(0, nearest.indices, nearest.values.isfinite().to(cosines.dtype))
    return F.normalize(weights.T @ _in_text_dimensions(segments if seen is None else seen, text), dim=1)


@torch.no_grad()
def with_text_prior(prototypes: Tensor, text: Tensor, weight: float) -> Tensor:
    """normalize(c_l + w text_l): few segments tell little about a class, its name tells something always.

    In a calibrated space alone, where pixels and names of a class lie near each other. Not in the paper.

    Args:
        prototypes: (K * m, D) c_lj, unit rows, m of each class; each of them moves.
        text: (K, D) unit rows.
        weight: w; 0 returns the prototypes.
    """
    if not weight:
        return prototypes
    return F.normalize(prototypes + weight * text.repeat_interleave(len(prototypes) // len(text), 0), dim=1)


def _in_text_dimensions(rows: Tensor, text: Tensor) -> Tensor:
    """(S, D) unit rows -> the same, turned into the dimensions that names have."""
    dimensions = text_dimensions(text)
    return rows if bool(dimensions.all()) else F.normalize(rows * dimensions, dim=1)


@torch.no_grad()
def sample_unknown(
    segments: Tensor,
    count: int,
    generator: torch.Generator | None = None,
    known: Tensor | None = None,
    share: float = 1,
) -> Tensor:
    """U unknown prototypes: ``count`` different teacher segments drawn at random.

    Args:
        segments: (S, D) unit rows.
        count: U; all candidates where there are fewer.
        known: (K, D) unit rows, or (K * m, D), needed for a share below 1.
        share: the part of the segments, farthest from every known prototype first, that is drawn from. 1 draws from all
            as the paper does; less keeps unknown prototypes away from the known classes.

    Returns:
        (U, D) unit rows.

    Raises:
        ValueError: share is not in (0, 1], or below 1 without known prototypes.
    """
    if not 0 < share <= 1 or (share < 1 and known is None):
        raise ValueError(f"share is in (0, 1], and below 1 needs known prototypes; got {share}")
    candidates = segments
    if share < 1 and known is not None and len(segments):
        nearness = (segments @ known.T).amax(1)
        candidates = segments[nearness.argsort()[: max(1, round(share * len(segments)))]]
    chosen = torch.randperm(len(candidates), generator=generator)[:count].to(segments.device)
    return candidates[chosen].clone()


@torch.no_grad()
def mixture_prototypes(
    start: Tensor,
    z: Tensor,
    image: Tensor,
    images: int,
    temperature: float,
    iterations: int,
    prior: Tensor | None = None,
    dimensions: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """Class prototypes moved into the student's space: a mixture of von Mises-Fisher densities fitted to its pixels.

    Each class is a density of one common concentration 1 / tau around its prototype; each image has class weights
    of its own, since an image shows few of the classes. One iteration of EM over unlabeled pixels:

        q_pl = softmax_l( z_p . c_l / tau + log w_il )    i the image of p, and w_il the mean over its pixels of
                                                          softmax_l( z_p . c_l / tau )
        c_l <- normalize( normalize( sum_p q_pl z_p ) + prior_l )

    The prior keeps a class with few pixels from drifting to a more frequent one. Of a class with several prototypes the
    nearest counts, and moves: z_p . c_l is the class's score, and q_pl z_p belongs to the sum of its nearest c_lj.
    The pixels are those of all ranks together. Not in the paper, whose prototypes stay in the teacher's space.

    Args:
        start: (K, D) unit rows; (L, D) with ``groups``, also for ``prior`` and ``dimensions``.
        z: (P, D) pixel embeddings of the student, unit rows; any real type.
        image: (P,) image of each, 0..images - 1; ranks number their own.
        images: their number on this rank.
        temperature: tau.
        iterations: of EM; 0 returns ``start``.
        prior: (K, D) rows; one of length 1 counts as much as all pixels of its class. None for none.
        dimensions: (K, D) bool, those that each class has; its pixels are ignored in the others. None for all.
        groups: (L,) the class of each prototype, see ``class_scores``.

    Returns:
        Unit rows of the shape of ``start``; a class without pixels keeps its prototype.
    """
    prototypes, classes = start, len(start) if groups is None else int(groups.max()) + 1
    block = max(1, PIXEL_BLOCK * classes // max(1, len(start)))
    for _ in range(iterations):
        weights = torch.zeros(images, classes, dtype=start.dtype, device=start.device)
        sums = torch.zeros_like(start)
        for rows, where in zip(z.split(block), image.split(block), strict=True):
            weights.index_add_(0, where, log_probability(rows.to(start) @ prototypes.T, temperature, groups).exp())
        log_weights = (weights / weights.sum(1, keepdim=True).clamp(min=_TINY)).clamp(min=_TINY).log()
        for rows, where in zip(z.split(block), image.split(block), strict=True):
            cosines = rows.to(start) @ prototypes.T
            log_p = log_probability(cosines, temperature, groups)
            shares = _of_nearest((log_p + log_weights[where]).softmax(1), cosines, groups)
            sums += shares.T @ rows.to(start)
        sums = distributed.total(sums)
        if dimensions is not None:
            sums = sums * dimensions
        found = F.normalize(sums, dim=1)
        if prior is not None:
            found = F.normalize(found + prior, dim=1)
        prototypes = torch.where(sums.norm(dim=1, keepdim=True) > _TINY, found, prototypes)
    return prototypes


def _of_nearest(shares: Tensor, cosines: Tensor, groups: Tensor | None) -> Tensor:
    """(P, K) shares of classes -> (P, L) those of prototypes: all of a class's to its nearest."""
    if groups is None:
        return shares
    of_row = groups.to(cosines.device)
    return shares[:, of_row] * (cosines == class_scores(cosines, groups)[:, of_row])


@torch.no_grad()
def update_unknown(
    unknown: Tensor, known: Tensor, guidance: Tensor, step: float, rule: Literal["mean", "gradient"] = "mean"
) -> Tensor:
    """Move each unknown prototype towards the segments assigned to it, so that its distance to them shrinks.

    c_l <- normalize( (1 - step) c_l + step * mean of i_s over the segments s with y_s = l ); one that has no segment in
    the batch stays. Spherical k-means by mini-batches, with the known prototypes as fixed centers. The batch is that of
    all ranks together. This is a gradient step of half the mean squared distance |c_l - i_s|^2, scaled to unit length.

    With ``rule`` "gradient" the distance is 1 - cos(c_l, i_s), whose gradient is tangential:

        c_l <- normalize( c_l - step * d/dc mean_s (1 - cos(c, i_s)) )

    Args:
        unknown: (U, D) unit rows.
        known: (K, D) unit rows, or (K * m, D), fixed.
        guidance: (S, D) unit rows, i_s.
        step: 0 (stay) to 1 ("mean": jump to the mean).
        rule: "mean" or "gradient".

    Returns:
        (U, D) unit rows.
    """
    if not len(unknown):
        return unknown
    labels = assign(guidance, torch.cat([known, unknown])) - len(known)
    # segments of known classes are summed into an extra row, which is dropped
    labels = torch.where(labels < 0, len(unknown), labels)
    sums = guidance.new_zeros(len(unknown) + 1, guidance.shape[1]).index_add(0, labels, guidance)[:-1]
    counts = guidance.new_zeros(len(unknown) + 1).index_add(0, labels, guidance.new_ones(len(labels)))[:-1, None]
    sums, counts = distributed.total(sums), distributed.total(counts)
    means = sums / counts.clamp(min=1)
    if rule == "gradient":
        moved = unknown - step * _distance_gradient(unknown, means)
    else:
        moved = (1 - step) * unknown + step * means
    return torch.where(counts > 0, F.normalize(moved, dim=1), unknown)


def _distance_gradient(prototypes: Tensor, means: Tensor) -> Tensor:
    """The gradient (U, D) of 1 - cos(c_l, .), averaged over segments, whose mean vectors (U, D) are all it needs."""
    with torch.enable_grad():
        c = prototypes.detach().requires_grad_()
        distance = (1 - (F.normalize(c, dim=1) * means.detach()).sum(1)).sum()
        return torch.autograd.grad(distance, c)[0]
