"""A teacher's pixel maps of many images, encoded once and kept on disk."""
