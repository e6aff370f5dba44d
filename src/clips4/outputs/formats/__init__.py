"""One format of segmentations per module: from arrays and names to bytes or to a JSON-ready value."""
