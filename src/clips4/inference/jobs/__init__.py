"""Files in, files out: one job a command, resumable by a manifest; formats are in ``outputs``."""
