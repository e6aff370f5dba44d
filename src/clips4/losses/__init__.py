"""The three losses of CLIP-S4, as pure functions."""

from clips4.losses.contrastive import pixel_segment_contrast
from clips4.losses.embedding_consistency import embedding_consistency
from clips4.losses.semantic_consistency import semantic_consistency

__all__ = ["embedding_consistency", "pixel_segment_contrast", "semantic_consistency"]
