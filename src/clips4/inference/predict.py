"""Pixel embeddings and class vectors to the class of every pixel."""

import torch
from torch import Tensor

from clips4.inference.classifier import BackgroundRule, Query
from clips4.inference.encoder import EncodedImage
from clips4.inference.refine.maskclip import Refinement, refine_scores
from clips4.inference.result import UNKNOWN_LABEL, Segmentation
from clips4.inference.tta import Edges
from clips4.inference.upsample import best_class, best_probability, pamr_class


@torch.no_grad()
def label_pixels(
    read: EncodedImage, vectors: Tensor, refinement: Refinement, refine: Edges | None
) -> tuple[Tensor, Tensor]:
    """The class of every pixel of a picture.

    Args:
        read: the picture, read.
        vectors: (L, D) unit rows.
        refinement: of a teacher alone.
        refine: to the picture's edges, see ``InferenceOptions``.

    Returns:
        (H, W) int64 labels 0..L-1, and (H, W) scores: cosines, or smoothed probabilities after key smoothing.
    """
    cosines = torch.einsum("dhw,ld->lhw", read.z, vectors.to(read.z))
    scores, asked = refine_scores(cosines, read.keys, refinement)
    if refine == "regions":
        from clips4.inference.refine.superpixels import region_class

        labels, best = region_class(scores, read.image)
    elif refine == "pamr" or refinement.pamr:
        labels, best = pamr_class(scores, read.image)
    else:
        labels, best = best_class(scores, read.image.shape[:2])
    return (labels if len(asked) == len(vectors) else asked[labels]), best


@torch.no_grad()
def answer(
    read: EncodedImage, query: Query, unknown: Tensor, refinement: Refinement, refine: Edges | None
) -> Segmentation:
    """The answer to a question for one picture.

    Args:
        read: the picture, read.
        query: what is asked.
        unknown: (U, D) unknown prototypes; no rows where nothing is to be unknown.
        refinement, refine: see ``label_pixels``.
    """
    asked, others = len(query.vectors), len(unknown)
    rows, similarity = label_pixels(read, torch.cat([query.vectors, unknown]), refinement, refine)
    # tables by which a row becomes a label: 20 megapixels of them are looked up, and never held as anything wider
    label_of = torch.cat([query.owner, torch.full((others,), UNKNOWN_LABEL)]).short().to(rows.device)
    unknown_of = torch.cat([torch.full((asked,), -1), torch.arange(others)]).short().to(rows.device)
    labels = _looked_up(label_of, rows)
    rule = query.background
    if rule is not None and (rule.probability is not None or rule.cosine is not None):
        labels[(labels >= 0) & _doubtful(read, query.vectors, rule, rows, similarity)] = query.background_label
    return Segmentation(
        read.image,
        labels.cpu().numpy(),
        similarity.float().cpu().numpy(),
        query.names,
        _looked_up(unknown_of, rows).cpu().numpy() if others else None,
        query.sources,
        read.z,
        query.vectors,
        query.owner,
    )


def _looked_up(table: Tensor, rows: Tensor) -> Tensor:
    """table[rows], four times faster."""
    return table.index_select(0, rows.flatten()).view(rows.shape)


def _doubtful(read: EncodedImage, vectors: Tensor, rule: BackgroundRule, rows: Tensor, similarity: Tensor) -> Tensor:
    """(H, W) pixels that a threshold gives to the background."""
    doubtful = torch.zeros_like(rows, dtype=torch.bool)
    if rule.cosine is not None:
        doubtful |= similarity < rule.cosine
    if rule.probability is not None:
        # among the asked words alone; an unknown pixel has no probability among them, and is left as it is
        cosines = torch.einsum("dhw,ld->lhw", read.z, vectors.to(read.z))
        within = torch.where(rows < len(vectors), rows, 0)
        doubtful |= best_probability(cosines, read.image.shape[:2], within, rule.scale) < rule.probability
    return doubtful
