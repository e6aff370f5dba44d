"""The paper, equation by equation: segments, prototypes, losses, objective; no files and no loop."""
