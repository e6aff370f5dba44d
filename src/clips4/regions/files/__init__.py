"""Region maps as files: ours with a checksum, and those that other programs made."""
