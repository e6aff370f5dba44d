"""Frozen vision-language models read densely; ``base`` has the protocol and ``load_teacher``."""
