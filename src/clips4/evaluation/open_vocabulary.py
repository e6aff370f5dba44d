"""Language-driven segmentation, scored by a protocol (see ``protocols``)."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from clips4.data.segmentation_dataset import LabeledFolder
from clips4.evaluation.metrics.confusion import Scores, SetScores, Tally, confusion_matrix, scores
from clips4.evaluation.protocols import Protocol
from clips4.inference.classifier import Query
from clips4.inference.predict import refined_class
from clips4.inference.refine.background import BackgroundRule
from clips4.inference.refine.lposs import propagate_over
from clips4.inference.refine.maskclip import refined_probabilities
from clips4.inference.segmenter import Segmenter
from clips4.inference.upsample import best_class
from clips4.method.class_scores import class_scores
from clips4.utils.images import RGB, reduce_to
from clips4.utils.progress import ProgressReporter, counted
from clips4.utils.tensors import resize_map, to_tensor

LOGIT_BUDGET = 2**26  # values of upsampled cosines held at a time


# ------------------------------------------------------------------------------------------------------ classifying


@torch.no_grad()
def cosines(segmenter: Segmenter, image: RGB, vectors: Tensor, protocol: Protocol) -> Tensor:
    """(L, h, w) cosines with (L, D) vectors, the image encoded as the protocol says; not yet at its original size.

    Where the segmenter refines its scores by MaskCLIP they are probabilities. Each window is refined as an image of its
    own, also by LPOSS.
    """
    spread = segmenter.options.refine == "lposs"

    def scores_of(z: Tensor, keys: Tensor | None, graph_features: Tensor | None) -> Tensor:
        found = torch.einsum("dhw,ld->lhw", z, vectors.to(z))
        if segmenter.refinement.of_scores:
            found = refined_probabilities(found, keys, segmenter.refinement)
        return propagate_over(found, z, graph_features) if spread else found

    if protocol.short_side is None:
        encoded = segmenter.encode_image(image)
        return scores_of(encoded.z, encoded.keys, segmenter.graph_features(encoded) if spread else None)
    images = resize_short(image, protocol.short_side)[None]
    height, width = images.shape[-2:]
    if protocol.window is None or protocol.stride is None:
        windows = [(0, height, 0, width)]
    else:
        windows = list(slide(height, width, protocol.window, protocol.stride))
    total = count = torch.zeros(())
    for number, (top, bottom, left, right) in enumerate(windows):
        part = images[..., top:bottom, left:right]
        z, keys = segmenter.encode_with_keys(part)
        features = segmenter.graph_features_at_size(part) if spread else None
        if number == 0:
            total, count = z.new_zeros(len(vectors), height, width), z.new_zeros(height, width)
        window = scores_of(z[0], *(None if each is None else each[0] for each in (keys, features)))[None]
        total[:, top:bottom, left:right] += resize_map(window, (bottom - top, right - left))[0]
        count[top:bottom, left:right] += 1
    return total / count


def resize_short(image: RGB, side: int) -> Tensor:
    """(H, W, 3) uint8 -> (3, h, w) in [0, 1] whose short side is ``side`` pixels, enlarged where it is smaller."""
    height, width = image.shape[:2]
    factor = side / min(height, width)
    size = round(height * factor), round(width * factor)
    if factor < 1:
        return to_tensor(reduce_to(image, max(size)))
    return resize_map(to_tensor(image)[None], size)[0].clamp(0, 1)


def slide(height: int, width: int, window: int, stride: int) -> Iterator[tuple[int, int, int, int]]:
    """Windows (top, bottom, left, right) that cover an image; the last of a row or column ends at the edge."""
    for top in _starts(height, window, stride):
        for left in _starts(width, window, stride):
            yield top, min(top + window, height), left, min(left + window, width)


def _starts(length: int, window: int, stride: int) -> list[int]:
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


@torch.no_grad()
def classify(
    logits: Tensor,
    owner: Tensor,
    size: tuple[int, ...],
    background: BackgroundRule | None,
    are_probabilities: bool = False,
    grouped: bool = False,
) -> Tensor:
    """Cosines upsampled to the original size of the image, then argmax; in chunks of vectors, to bound memory.

    Args:
        logits: (L, h, w) cosines.
        owner: (L,) class of each.
        size: (H, W).
        background: which pixels are of class 0, for sets with a background class.
        are_probabilities: whether ``logits`` are class probabilities already, with which a threshold is compared.
        grouped: see ``Query``.

    Returns:
        (H, W) int64 classes.
    """
    if background is None:
        words, _ = best_class(logits, size)
        return owner.to(words.device)[words]
    keep = torch.ones(len(logits), dtype=torch.bool)
    scale = None if are_probabilities else background.scale
    labels, probability = _best(logits, owner, size, scale, keep, grouped)
    if background.min_share:
        counts = torch.bincount(labels.flatten(), minlength=int(owner.max()) + 1)[1:]
        small = (counts <= background.min_share * counts.sum()).nonzero().flatten() + 1
        keep = ~torch.isin(owner, small.to(owner.device))
        if keep.any() and not keep.all():
            labels, probability = _best(logits, owner, size, scale, keep, grouped)
    return labels if background.probability is None else torch.where(probability < background.probability, 0, labels)


def _best(
    logits: Tensor, owner: Tensor, size: tuple[int, ...], scale: float | None, keep: Tensor, grouped: bool
) -> tuple[Tensor, Tensor]:
    """(H, W) class of the best of the vectors to keep, and its softmax probability among all vectors, or all classes.

    Without a scale, ``logits`` are probabilities.
    """
    height, width = size
    best = torch.full((height, width), -torch.inf, dtype=logits.dtype, device=logits.device)
    index, log_sum = torch.zeros_like(best, dtype=torch.long), best.clone()
    at_once = max(1, LOGIT_BUDGET // (height * width))
    for start, end in _chunks(owner if grouped else torch.arange(len(owner)), at_once):
        large = resize_map(logits[None, start:end], (height, width))[0]
        if scale is not None:
            of_classes = class_scores(large, owner[start:end] - owner[start] if grouped else None, 0)
            log_sum = torch.logaddexp(log_sum, (scale * of_classes).logsumexp(0))
        allowed = keep[start:end].nonzero().flatten()
        if len(allowed):
            value, place = large[allowed.to(large.device)].max(0)
            better = value > best
            best = torch.where(better, value, best)
            index = torch.where(better, allowed.to(place.device)[place] + start, index)
    return owner.to(index.device)[index], best if scale is None else (scale * best - log_sum).exp()


def _chunks(groups: Tensor, at_once: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most ``at_once`` vectors, or of one group: each has whole groups, whose vectors lie together."""
    start = end = 0
    for size in torch.unique_consecutive(groups, return_counts=True)[1].tolist():
        if end > start and end + size - start > at_once:
            yield start, end
            start = end
        end += size
    if end > start:
        yield start, end


# ----------------------------------------------------------------------------------------------------------- scoring


def evaluate_language(
    segmenter: Segmenter,
    dataset: LabeledFolder,
    queries: Mapping[str, Query],
    protocol: Protocol,
    progress: ProgressReporter | None = None,
) -> dict[str, SetScores]:
    """Score several queries in one pass over a labeled set.

    Args:
        segmenter: a student or a teacher alone.
        dataset: images and truth.
        queries: by name; their background is that of the protocol.
        protocol: as ``protocols.language_protocol`` gives it for this set.

    Returns:
        Scores by the names of ``queries``.

    Raises:
        ValueError: a background rule for a set without background, or a set with background and no rule; refinement to
            the image's edges on a set with background.
    """
    if (protocol.background is not None) != dataset.background:
        raise ValueError("a set needs a background rule if it has a background class, and only then")
    classes = len(dataset.classes)
    refined = segmenter.refinement.of_scores  # of one query at a time: what is removed depends on its classes
    to_edges = segmenter.options.refine in ("pamr", "regions")
    if to_edges and protocol.background is not None:
        raise ValueError("a background rule applies to scores, not to labels refined to the image's edges")
    groups = [[query] for query in queries.values()] if refined else [list(queries.values())]
    counts = {name: Tally(classes) for name in queries}
    for _, image, truth in counted(progress, "scoring", dataset, len(dataset)):
        parts: list[Tensor] = []
        for group in groups:
            every = torch.cat([query.vectors for query in group])
            parts += cosines(segmenter, image, every, protocol).split([len(query.vectors) for query in group])
        for (name, query), logits in zip(queries.items(), parts, strict=True):
            if to_edges:
                rows, _ = refined_class(logits, image, segmenter.options.refine)
                labels = query.owner.to(rows.device)[rows]
            else:
                labels = classify(logits, query.owner, truth.shape, protocol.background, refined, query.grouped)
            counts[name].add(confusion_matrix(truth, labels.cpu().numpy().astype(truth.dtype), classes))
    return {name: SetScores.collect(dataset.images, each) for name, each in counts.items()}


def score_language(
    segmenter: Segmenter,
    dataset: LabeledFolder,
    vectors: Mapping[str, Tensor | Query],
    progress: ProgressReporter | None = None,
) -> dict[str, Scores]:
    """Scores by clips4-v1 for (K, D) class vectors by name, or queries, on a set without background.

    Predictions are refined as the segmenter's options say (key smoothing, prompt denoising, PAMR of a teacher alone).
    """
    classes = len(dataset.classes)
    queries = {name: each if isinstance(each, Query) else Query.one_per_class(each) for name, each in vectors.items()}
    confusion = {name: np.zeros((classes, classes + 1), np.int64) for name in vectors}
    for _, image, truth in counted(progress, "scoring", dataset, len(dataset)):
        encoded = segmenter.encode_image(image)
        for name, query in queries.items():
            rows = segmenter.classify(encoded, query.vectors)[0].cpu()
            confusion[name] += confusion_matrix(truth, query.owner[rows].numpy().astype(truth.dtype), classes)
    return {name: scores(counts) for name, counts in confusion.items()}
