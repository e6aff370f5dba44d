"""A folder of outputs: the names of files in it, its manifest, and what a job may write there; no file format."""
