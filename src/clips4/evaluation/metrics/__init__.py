"""Figures from arrays alone; no model, no torch."""
