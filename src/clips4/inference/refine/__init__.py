"""Refinement of coarse predictions to the outlines of the image; no class vectors are made here."""
