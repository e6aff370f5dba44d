"""The objective of CLIP-S4: lambda_t L_t + lambda_e L_e + lambda_s L_s, by named terms."""

from typing import NamedTuple

import torch
from torch import Tensor

from clips4.config import ExtensionConfig, ObjectiveConfig, SegmentConfig
from clips4.data.label_maps import IGNORED
from clips4.data.views import VIEWS
from clips4.method.class_scores import assign, assign_in_context
from clips4.method.losses.contrastive import pixel_segment_contrast
from clips4.method.losses.embedding_consistency import embedding_consistency
from clips4.method.losses.maskclip_plus import maskclip_plus
from clips4.method.losses.semantic_consistency import semantic_consistency
from clips4.method.segments import cut_by_regions, flatten_pixels, pool, spherical_kmeans
from clips4.utils import distributed

PAPER = ExtensionConfig()  # nothing beyond the paper


class Terms(NamedTuple):
    """The objective and its parts for one batch.

    Attributes:
        total: the weighted sum that is minimized. With several ranks it is this rank's share of it, times their number:
            data-parallel training averages the ranks' gradients, which so becomes the gradient of the whole.
        contrast, embedding, semantic: L_t, L_e, L_s before weighting, shares likewise; 0 where switched off.
        guidance: (S, D) i_s of this rank's segments, what unknown prototypes are moved by.
    """

    total: Tensor
    contrast: Tensor
    embedding: Tensor
    semantic: Tensor
    guidance: Tensor


def objective(
    z: Tensor,
    regions: Tensor,
    pixel_map: Tensor,
    prototypes: Tensor,
    settings: ObjectiveConfig,
    segment_settings: SegmentConfig,
    drawn: Tensor | None = None,
    progress: float = 0.0,
    text: Tensor | None = None,
    extensions: ExtensionConfig = PAPER,
    text_temperature: float | None = None,
    groups: Tensor | None = None,
) -> Terms:
    """Segments of each view, their student and teacher vectors, and the three losses.

    The losses are means over the batches of all ranks together, and L_t contrasts with the segments of all ranks.

    Args:
        z: (B * V, D, h, w) pixel embeddings of the student, unit along D, the views of an image side by side.
        regions: (B * V, h, w) region of each pixel, numbered through over the images of the batch.
        pixel_map: (B * V, D, h, w) the teacher's pixel map, warped to the views.
        prototypes: (L, D) known, then unknown class prototypes.
        settings: weights of the terms, kappa and tau; a weight of 0 switches its term off.
        segment_settings: how segments are made.
        drawn: indices (N,) of the pixels of z, flattened, that L_t is averaged over; None takes all.
        progress: the part of the schedule that is done, in [0, 1]; it switches MaskCLIP+ to self-training.
        text: (K, D) text vectors of the known classes; needed for ``extensions.text_weight`` and ``unknown_apart``.
        extensions: what goes beyond the paper.
        text_temperature: tau of cosines with text in a calibrated space, where text and unknown prototypes never meet
            in one softmax; None in the raw space.
        groups: (L,) the class of each prototype, known ones first, see ``class_scores``; None: one for each class.

    Returns:
        The weighted sum, its parts and the guidance i_s.

    Raises:
        ValueError: ``text`` is needed and missing.
    """
    if settings.mode == "maskclip-plus":
        loss = maskclip_plus(
            z,
            pixel_map,
            prototypes,
            settings.temperature,
            settings.confidence,
            settings.prompt_denoising,
            self_training=progress >= settings.guided_share,
        )
        return Terms(loss, z.new_zeros(()), z.new_zeros(()), loss.detach(), pixel_map.new_zeros(0, pixel_map.shape[1]))
    segments = cut_by_regions(
        spherical_kmeans(z.detach(), segment_settings.clusters, segment_settings.iterations), regions
    )
    pixels, labels, pixel_region = flatten_pixels(z), segments.labels.flatten(), regions.flatten()
    v = pool(pixels, labels, len(segments.region))
    guidance = pool(flatten_pixels(pixel_map), labels, len(v))
    if drawn is not None:
        pixels, labels, pixel_region = pixels[drawn], labels[drawn], pixel_region[drawn]
    contrast = embedding = semantic = z.new_zeros(())
    sizes = _sizes(segments.region)
    segment_share = distributed.world_size() / max(1, sum(segment_count for segment_count, _ in sizes))
    vectors, assigned = _ClassVectors(prototypes, groups), None
    if settings.semantic_weight or (settings.contrast_weight and extensions.exclude_same_class):
        assigned = _assign_classes(
            guidance, segments.view // VIEWS, len(z) // VIEWS, vectors, text, settings, extensions
        )
    if settings.contrast_weight:
        same_class = assigned.y if assigned is not None and extensions.exclude_same_class else None
        contrast = _contrast(pixels, pixel_region, labels, v, segments.region, same_class, sizes, settings)
    if settings.embedding_weight:
        embedding = segment_share * embedding_consistency(v, guidance, "sum")
    if assigned is not None and settings.semantic_weight:
        semantic = segment_share * _semantic(
            v, guidance, assigned, vectors, text, settings, extensions, text_temperature
        )
    weights = (settings.contrast_weight, settings.embedding_weight, settings.semantic_weight)
    total = torch.stack([w * term for w, term in zip(weights, (contrast, embedding, semantic), strict=True)]).sum()
    return Terms(total, contrast, embedding, semantic, guidance)


class _ClassVectors(NamedTuple):
    """Class vectors: rows (L, D), known classes first, and the class (L,) of each; None where each row is a class."""

    rows: Tensor
    groups: Tensor | None = None

    def known(self, count: int) -> "_ClassVectors":
        """The vectors of the first ``count`` classes."""
        if self.groups is None:
            return _ClassVectors(self.rows[:count])
        of_known = self.groups[self.groups < count]
        return _ClassVectors(self.rows[: len(of_known)], of_known)


class _Classes(NamedTuple):
    """The teacher's class of each segment.

    Attributes:
        y: (S,) y_s, known or unknown.
        known: (S,) k_s, its nearest known class; None without ``unknown_apart``.
    """

    y: Tensor
    known: Tensor | None = None


def _assign_classes(
    guidance: Tensor,
    image: Tensor,
    images: int,
    vectors: _ClassVectors,
    text: Tensor | None,
    settings: ObjectiveConfig,
    extensions: ExtensionConfig,
) -> _Classes:
    """y_s; with ``unknown_apart``, context decides among known classes only, not whether a segment is unknown.

    y_s = k_s, the class in context among the known, or the unknown class l where i_s . c_l is largest of all.
    """
    if text is None and (extensions.text_weight or extensions.unknown_apart):
        raise ValueError("extensions.text_weight or unknown_apart is not 0: give the text vectors")
    tau, context = settings.temperature, extensions.context
    if text is None or not extensions.unknown_apart:
        return _Classes(assign_in_context(guidance, vectors.rows, image, images, tau, context, vectors.groups))
    known = vectors.known(len(text))
    nearest = assign(guidance, vectors.rows, vectors.groups)
    choice = assign_in_context(guidance, known.rows, image, images, tau, context, known.groups)
    return _Classes(torch.where(nearest >= len(text), nearest, choice), choice)


def _semantic(
    v: Tensor,
    guidance: Tensor,
    assigned: _Classes,
    vectors: _ClassVectors,
    text: Tensor | None,
    settings: ObjectiveConfig,
    extensions: ExtensionConfig,
    text_temperature: float | None,
) -> Tensor:
    """L_s, summed over segments, against prototypes and, with ``text_weight``, against text vectors as well.

    Prototypes assign classes better than text does, so their y_s is the target of both.

    With ``unknown_apart``, a segment of an unknown class also learns its nearest known class, for queries without
    unknown classes.

        L_s(s) = CE(y_s, softmax(v_s . C / tau)) + [y_s is unknown] CE(k_s, softmax(v_s . C_known / tau))

    In a calibrated space (``text_temperature``), text is a bank of its own:

        [y_s is known] CE(y_s, softmax(v_s . T / tau_t))

    with k_s in the place of y_s, and all segments, under ``unknown_apart``.
    """
    tau = settings.temperature
    banks = [(vectors, 1.0)]
    if text is not None and extensions.text_weight and text_temperature is None:
        unknown = vectors.rows[len(vectors.known(len(text)).rows) :]
        banks.append((_ClassVectors(torch.cat([text, unknown])), extensions.text_weight))
    terms = []
    for (rows, groups), weight in banks:
        terms.append(weight * semantic_consistency(v, guidance, rows, tau, "sum", assigned.y, groups))
        if text is not None and assigned.known is not None:
            known = _ClassVectors(rows, groups).known(len(text))
            of_known = semantic_consistency(v, guidance, known.rows, tau, "none", assigned.known, known.groups)
            terms.append(weight * ((assigned.y >= len(text)) * of_known).sum())
    if text is not None and extensions.text_weight and text_temperature is not None:
        target = assigned.y if assigned.known is None else assigned.known
        named = target < len(text)
        by_text = semantic_consistency(v[named], guidance[named], text, text_temperature, "sum", target[named])
        terms.append(extensions.text_weight * by_text)
    return torch.stack(terms).sum()


def _sizes(segment_region: Tensor) -> list[list[int]]:
    """Segments and regions of each rank."""
    if distributed.world_size() == 1:  # nothing to renumber, and no wait for the device
        return [[len(segment_region), 0]]
    regions = int(segment_region.max()) + 1 if len(segment_region) else 0
    return distributed.counts(len(segment_region), regions, device=segment_region.device).tolist()


def _contrast(
    pixels: Tensor,
    pixel_region: Tensor,
    labels: Tensor,
    v: Tensor,
    segment_region: Tensor,
    segment_class: Tensor | None,
    sizes: list[list[int]],
    settings: ObjectiveConfig,
) -> Tensor:
    """L_t of this rank's pixels against the segments of all ranks, as its share of the mean over all pixels."""
    ignored = labels == IGNORED
    if distributed.world_size() > 1:
        # number regions and segments through over ranks, so that no two ranks share a number
        first_segment, first_region = (sum(before) for before in zip((0, 0), *sizes[: distributed.rank()], strict=True))
        segment_counts = [segment_count for segment_count, _ in sizes]
        labels = torch.where(ignored, IGNORED, labels + first_segment)
        pixel_region = torch.where(ignored, IGNORED, pixel_region + first_region)
        segment_region = distributed.gather_rows(segment_region + first_region, segment_counts)
        v = distributed.gather_rows(v, segment_counts)
        if segment_class is not None:
            segment_class = distributed.gather_rows(segment_class, segment_counts)
    summed = pixel_segment_contrast(
        pixels,
        pixel_region,
        labels,
        v,
        segment_region,
        settings.concentration,
        settings.exclude_own,
        reduction="sum",
        budget=settings.chunk_mib * 2**20,
        segment_class=segment_class,
    )
    return summed * distributed.world_size() / distributed.total((~ignored).sum()).clamp(min=1)
