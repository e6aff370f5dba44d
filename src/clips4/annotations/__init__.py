"""Label files of annotation tools, read into label maps: one module a format; no writing (``outputs``), no model."""
