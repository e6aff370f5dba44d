"""The objective of CLIP-S4: lambda_t L_t + lambda_e L_e + lambda_s L_s, by named terms."""

from typing import NamedTuple

import torch
from torch import Tensor

from clips4.config import ObjectiveConfig, SegmentConfig
from clips4.losses import embedding_consistency, pixel_segment_contrast, semantic_consistency
from clips4.losses.pseudo_labels import maskclip_plus
from clips4.segments import cut_by_regions, flatten_pixels, pool, spherical_kmeans


class Terms(NamedTuple):
    """The objective and its parts for one batch.

    Attributes:
        total: the weighted sum that is minimised.
        contrast, embedding, semantic: L_t, L_e, L_s before weighting; 0 where switched off.
        guidance: (S, D) i_s of the batch's segments, what unknown prototypes are moved by.
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
    generator: torch.Generator | None = None,
    progress: float = 0.0,
) -> Terms:
    """Segments of each view, their student and teacher vectors, and the three losses.

    Args:
        z: (B * V, D, h, w) pixel embeddings of the student, unit along D, the views of an image side by side.
        regions: (B * V, h, w) region of each pixel, numbered through over the images of the batch.
        pixel_map: (B * V, D, h, w) the teacher's pixel map, warped to the views.
        prototypes: (L, D) known and unknown class prototypes.
        settings: weights of the terms, kappa and tau; a weight of 0 switches its term off.
        segment_settings: how segments are made.
        generator: draws the pixels of L_t where ``settings.contrast_pixels`` limits them.
        progress: part of the schedule that is done, in [0, 1]; MaskCLIP+ goes over to self-training by it.
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
        spherical_kmeans(
            z.detach(), segment_settings.clusters, segment_settings.iterations, segment_settings.location_weight
        ),
        regions,
    )
    count, labels = len(segments.region), segments.labels.flatten()
    pixels = flatten_pixels(z)
    v = pool(pixels, labels, count)
    guidance = pool(flatten_pixels(pixel_map), labels, count)
    off = z.new_zeros(())
    contrast = embedding = semantic = off
    if settings.contrast_weight:
        drawn = _draw(len(pixels), settings.contrast_pixels, generator).to(z.device)
        contrast = pixel_segment_contrast(
            pixels[drawn],
            regions.flatten()[drawn],
            labels[drawn],
            v,
            segments.region,
            settings.concentration,
            settings.exclude_own,
        )
    if settings.embedding_weight:
        embedding = embedding_consistency(v, guidance)
    if settings.semantic_weight:
        semantic = semantic_consistency(v, guidance, prototypes, settings.temperature)
    weights = (settings.contrast_weight, settings.embedding_weight, settings.semantic_weight)
    total = torch.stack([w * term for w, term in zip(weights, (contrast, embedding, semantic), strict=True)]).sum()
    return Terms(total, contrast, embedding, semantic, guidance)


def _draw(pixels: int, limit: int, generator: torch.Generator | None) -> Tensor:
    """Indices of the pixels that L_t is averaged over: all, or ``limit`` drawn at random without bias."""
    if not limit or limit >= pixels:
        return torch.arange(pixels)
    return torch.randperm(pixels, generator=generator)[:limit]
