"""Commands that measure: evaluate a run, score saved predictions, compare settings."""
