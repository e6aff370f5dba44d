"""Parse, call, print; no computation."""
