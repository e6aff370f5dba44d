"""Scores without class names: clusters, nearest neighbors, a linear probe."""
