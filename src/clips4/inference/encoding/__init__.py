"""Images to pixel embeddings: options, the encoder that all of inference uses, features by name; no class names."""
