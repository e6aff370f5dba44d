"""Pixel embeddings and class vectors to the class of every pixel."""

import torch
from torch import Tensor

from clips4.inference.classifier import Query
from clips4.inference.encoding.encoder import EncodedImage
from clips4.inference.encoding.tta import Edges
from clips4.inference.refine.background import BackgroundRule
from clips4.inference.refine.lposs import propagate_over
from clips4.inference.refine.maskclip import Refinement, refine_scores
from clips4.inference.result import Segmentation
from clips4.inference.upsample import best_class, best_probability, pamr_class
from clips4.method.class_scores import class_scores
from clips4.method.prediction_context import PredictionContext, context_bias
from clips4.outputs.labeled_image import UNKNOWN_LABEL
from clips4.utils.images import RGB


@torch.no_grad()
def classify(
    encoded: EncodedImage,
    vectors: Tensor,
    refinement: Refinement,
    refine: Edges | None,
    context: float = 0.0,
    temperature: float = 0.07,
    groups: Tensor | None = None,
    graph_features: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The class vector nearest to every pixel of an image.

    Args:
        encoded: the image and its embeddings.
        vectors: (L, D) unit rows.
        refinement: of a teacher without a student.
        refine: to the image's edges, see ``InferenceOptions``.
        context: w of ``method.prediction_context``; key smoothing, whose scores are no cosines, ignores it.
        temperature: tau of the same.
        groups: (L,) the class of each vector, for the context; see ``class_scores``.
        graph_features: (C, h', w') of a proxy, for LPOSS; the embeddings themselves where there are none.

    Returns:
        (H, W) int64 labels 0..L-1, and (H, W) scores: cosines, or smoothed probabilities after key smoothing.
    """
    cosines = torch.einsum("dhw,ld->lhw", encoded.z, vectors.to(encoded.z))
    scores, kept = refine_scores(cosines, encoded.keys, refinement)
    if refine == "lposs":
        scores = propagate_over(scores, encoded.z, graph_features)
    weight = 0.0 if refinement.key_smoothing else context
    bias = scores.new_zeros(len(scores))
    if weight:
        bias = context_bias(class_scores(scores, groups, 0), temperature, weight)
        bias = bias if groups is None else bias[groups.to(bias.device)]
        scores = scores + bias[:, None, None]
    labels, best = refined_class(scores, encoded.image, "pamr" if refine != "regions" and refinement.pamr else refine)
    if weight:  # the scores of a prediction are cosines
        best = best - _look_up(bias, labels)
    return (labels if len(kept) == len(vectors) else kept[labels]), best


def refined_class(scores: Tensor, image: RGB, refine: Edges | None) -> tuple[Tensor, Tensor]:
    """The best class of every pixel, by scores that are refined to the image's edges.

    Args:
        scores: (L, h, w).
        image: (H, W, 3) uint8.
        refine: "pamr" or "regions"; any other upsamples alone.

    Returns:
        (H, W) int64 labels 0..L-1, and (H, W) the score of each.
    """
    if refine == "regions":
        from clips4.inference.refine.superpixels import region_class

        return region_class(scores, image)
    return pamr_class(scores, image) if refine == "pamr" else best_class(scores, image.shape[:2])


@torch.no_grad()
def predict(
    encoded: EncodedImage,
    query: Query,
    unknown: Tensor,
    refinement: Refinement,
    refine: Edges | None,
    margin: float = 0.0,
    context: PredictionContext = PredictionContext(),  # noqa: B008  # frozen
    graph_features: Tensor | None = None,
) -> Segmentation:
    """The prediction for one image.

    Args:
        encoded: the image and its embeddings.
        query: the class vectors.
        unknown: (U, D) unknown prototypes; no rows if no pixel may be unknown.
        refinement: see ``classify``.
        refine: see ``classify``.
        margin: delta, of a query with ``pixel_vectors``.
        context: of the image; it chooses among the named classes alone, and does not decide which pixels are unknown.
        graph_features: see ``classify``.

    With ``pixel_vectors`` c_l, text and pixel prototypes never meet in one argmax: z is unknown where
    max_u z . c_u > max_l z . c_l + delta, and its class is argmax_l z . t_l over the query's own vectors t_l.
    """
    known, others = len(query.vectors), len(unknown)
    by_text = all(source in ("text", "rule") for source in query.sources)
    tau = context.text_temperature if by_text else context.pixel_temperature
    apart = query.pixel_vectors is not None or context.weight != 0
    vectors = query.vectors if apart else torch.cat([query.vectors, unknown])
    rows, similarity = classify(encoded, vectors, refinement, refine, context.weight, tau, query.groups, graph_features)
    if others and apart:
        pixel_vectors = query.vectors if query.pixel_vectors is None else query.pixel_vectors
        best_known = similarity
        if pixel_vectors is not query.vectors or context.weight:
            best_known = classify(encoded, pixel_vectors, refinement, refine, graph_features=graph_features)[1]
        nearest, best_unknown = classify(encoded, unknown, refinement, refine, graph_features=graph_features)
        is_unknown = best_unknown > best_known + margin
        rows = torch.where(is_unknown, known + nearest, rows)
        similarity = torch.where(is_unknown, best_unknown, similarity)
    # tables from row to label: lookups in int16 keep 20 megapixels of labels small
    label_of = torch.cat([query.owner, torch.full((others,), UNKNOWN_LABEL)]).short().to(rows.device)
    unknown_of = torch.cat([torch.full((known,), -1), torch.arange(others)]).short().to(rows.device)
    labels = _look_up(label_of, rows)
    rule = query.background
    if rule is not None and (rule.probability is not None or rule.cosine is not None):
        labels[(labels >= 0) & _below_threshold(encoded, query, rule, rows, similarity)] = query.background_label
    return Segmentation(
        encoded.image,
        labels.cpu().numpy(),
        similarity.float().cpu().numpy(),
        query.names,
        _look_up(unknown_of, rows).cpu().numpy() if others else None,
        query.sources,
        encoded.z,
        query.vectors,
        query.owner,
        encoded.source,
    )


def _look_up(table: Tensor, rows: Tensor) -> Tensor:
    """table[rows], four times faster."""
    return table.index_select(0, rows.flatten()).view(rows.shape)


def _below_threshold(
    encoded: EncodedImage, query: Query, rule: BackgroundRule, rows: Tensor, similarity: Tensor
) -> Tensor:
    """(H, W) pixels that a threshold makes background."""
    below = torch.zeros_like(rows, dtype=torch.bool)
    if rule.cosine is not None:
        below |= similarity < rule.cosine
    if rule.probability is not None:
        # among the named classes alone: an unknown pixel has no probability there, and the caller leaves it unknown
        cosines = torch.einsum("dhw,ld->lhw", encoded.z, query.vectors.to(encoded.z))
        within = torch.where(rows < len(query.vectors), rows, 0)
        size, groups = encoded.image.shape[:2], query.groups
        below |= best_probability(cosines, size, within, rule.scale, groups) < rule.probability
    return below
