"""Scores by a named protocol, and what is run to get them."""
