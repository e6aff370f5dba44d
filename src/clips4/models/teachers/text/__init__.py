"""Text on its way to a teacher's vectors: tokenizers, prompts, and class vectors on disk; no network, no image."""
