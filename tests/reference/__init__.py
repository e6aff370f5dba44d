"""Slow, obvious versions of the mathematics, straight from the equations, that the fast code is held against."""
