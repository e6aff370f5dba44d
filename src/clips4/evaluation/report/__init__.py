"""What a run learned, collected once and drawn as one page."""
